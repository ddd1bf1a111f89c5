"""A service as a child process of `up`."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import typer

import services
from services.cli.backoff import backoff_s
from services.cli.run_service import ready_line
from services.infrastructure.embedded.process import EmbeddedServerError

READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 12.0
_STABLE_AFTER_S = 30.0
_ROOT = str(Path(services.__file__).parents[1])
_SERVICE = (
    "import sys; root = sys.argv.pop(1); root in sys.path or sys.path.insert(1, root); "
    "from services.cli.main import run; run()"
)
"""Our code, whatever lies in the current directory or on ``PYTHONPATH``: ``-I`` leaves both out."""


def say(text: str) -> None:
    typer.echo(text)


@dataclass(slots=True)
class Child:
    """A service as a child process. It ends with this process, because it reads a pipe that this process holds."""

    service: str
    environment: dict[str, str]
    log: Path
    ready: threading.Event = field(default_factory=threading.Event)
    process: subprocess.Popen[str] | None = None
    started: float = 0.0
    failures: int = 0

    def start(self) -> None:
        self.ready.clear()
        self.started = time.monotonic()
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-X", "utf8", "-c", _SERVICE, _ROOT, "run", self.service, "--with-parent"],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            if line.strip() == ready_line(self.service):
                self.ready.set()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self.ready.wait(0.1):
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                last = (self.log.read_text().strip().splitlines() or ["it wrote no log"])[-1]
                raise EmbeddedServerError(f"The {self.service} did not become ready: {last} (see {self.log})")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def revive(self) -> None:
        """Restarts the service if it ended, with a back-off that doubles with each failure."""
        if self.process is None or self.process.poll() is None:
            return
        self.failures = 1 if time.monotonic() - self.started > _STABLE_AFTER_S else self.failures + 1
        say(f"The {self.service} ended and is restarted; see {self.log}")
        time.sleep(backoff_s(self.failures, 1.0, 30.0))
        self.start()
