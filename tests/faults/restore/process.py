"""A restore that kills itself: ``python -m tests.faults.restore.process SERVERS DIR STEP COUNT``, after it has
completed the step so many times."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from services.audit.log.backup import open_backup
from services.audit.log.restore import restore


def main() -> None:
    servers, directory, step, left = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

    def on_step(completed: str) -> None:
        nonlocal left
        left -= completed == step
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(restore(open_backup(directory), servers, {}, on_step=on_step))


if __name__ == "__main__":
    main()
