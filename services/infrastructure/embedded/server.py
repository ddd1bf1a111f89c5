"""What an embedded broker and an embedded database have in common: a guarded child process on a loopback port."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from services.infrastructure.embedded.process import (
    DirectoryUnusable,
    GuardedProcess,
    Server,
    ServerFailed,
    free_port,
    last_lines,
    require_free,
    require_writable,
)

_READY_TIMEOUT_S = 60


class EmbeddedServer(ABC):
    """On 127.0.0.1, its data under ``directory``; it ends with this process.

    Blocking; use it from a thread where there is an event loop. Raises `EmbeddedServerError`.
    """

    name: ClassVar[str]
    _what: ClassVar[str]
    """As a sentence calls it."""
    _port_variable: ClassVar[str]

    def __init__(self, directory: Path, port: int | None) -> None:
        self._directory = directory
        self.port = port or free_port()
        self._process: GuardedProcess | None = None

    @abstractmethod
    def _prepared(self) -> Server:
        """Sets up its data where there is none yet, and says how it is run."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it does what it is there for."""

    @abstractmethod
    def _damage(self) -> str:
        """What is wrong where it ended at once, and the disk is not full."""

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed(f"The embedded {self._what} is not running.")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    @abstractmethod
    def log(self) -> Path: ...

    def start(self) -> Self:
        """Returns when it answers."""
        require_writable(self._directory)
        require_free(self.port, f"the embedded {self._what}", self._port_variable)
        self._process = GuardedProcess(self._prepared())
        self._wait_until_ready()
        return self

    def ended(self) -> bool:
        """Whether it ended by itself, or by somebody else's hand; `start` starts it again."""
        return self._process is not None and self._process.ended()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None

    def revive(self) -> bool:
        """Starts it again if it ended without `stop`, and returns whether it had."""
        if not self.ended():
            return False
        self.stop()
        self.start()
        return True

    def kill(self) -> None:
        """SIGKILL, as a crash would be."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.ended():
                self.stop()
                raise self._diagnosis()
            if self._answers():
                return
            time.sleep(0.1)
        self.stop()
        raise ServerFailed(f"The embedded {self._what} did not answer within {_READY_TIMEOUT_S} s; see {self.log}.")

    def _diagnosis(self) -> Exception:
        if "No space left on device" in last_lines(self.log):
            return DirectoryUnusable(
                f"The disk of {self._directory} is full; make room or set SWITCHBOARD_DATA_DIR to another directory."
            )
        return ServerFailed(f"The embedded {self._what} ended at once: {self._damage()}")
