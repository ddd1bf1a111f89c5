"""A growth that kills itself: ``python -m tests.faults.growth.process SERVERS PARTITIONS STEP COUNT``, after it has
completed the step so many times."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from services.decider.grow_partitions import grow


def main() -> None:
    servers, partitions, step, left = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

    def on_step(completed: str) -> None:
        nonlocal left
        left -= completed == step
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(grow(servers, {}, partitions, on_step=on_step))


if __name__ == "__main__":
    main()
