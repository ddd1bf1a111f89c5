"""A process of a fault round: it says when it is ready, and before it sends itself a signal."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

READY = "ready"
SIGNALLED = "signals itself"


class ServiceProcess:
    """``python -m MODULE OPTIONS``; ``signalled`` is set before it sends itself its signal."""

    def __init__(self, module: str, environment: dict[str, str], log: Path, options: str) -> None:
        self.ready, self.signalled = asyncio.Event(), asyncio.Event()
        with log.open("a") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, options],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                start_new_session=True,
            )
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await asyncio.to_thread(self.process.stdout.readline):
            {READY: self.ready, SIGNALLED: self.signalled}.get(line.decode().strip(), asyncio.Event()).set()

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """Ends the process, whatever state it is in."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        try:
            await asyncio.to_thread(self.process.wait, 12)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        await self._reading
        self.process.stdout.close()
