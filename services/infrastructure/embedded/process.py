"""A guarded server process, and the sentences for what can go wrong with one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 20.0
"""How long a server may take to stop, and a new one waits for an old one on the same data."""

_OPEN_FILES = 65_536
_FEWEST_OPEN_FILES = 1_024


class EmbeddedServerError(Exception):
    """The embedded broker or database cannot run; the sentence says why, and what to do."""


class PortTaken(EmbeddedServerError):
    """Somebody else listens there."""


class DirectoryUnusable(EmbeddedServerError):
    """Not writable, full, or in use."""


class ServerFailed(EmbeddedServerError):
    """It ended, or never became ready; its log says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """What to run, and how to end it."""

    name: str
    command: Sequence[str]
    directory: Path
    stop_signal: int = signal.SIGTERM

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"


class GuardedProcess:
    """A server under a guard (`guard.py`) that ends it when this process ends."""

    def __init__(self, server: Server) -> None:
        self._server = server
        order = {
            "command": list(server.command),
            "log": str(server.log),
            "lock": str(server.directory / "lock"),
            "stop_signal": server.stop_signal,
            "patience_s": PATIENCE_S,
        }
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Java reads and writes file names in the locale's letters.
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        assert self._guard.stdout is not None  # noqa: S101 -- for the type checker; it is a pipe
        answer = self._guard.stdout.readline().strip()
        if not answer.isdigit():
            self.stop()
            raise DirectoryUnusable(
                f"{server.directory} is in use by another {server.name}; stop that one, "
                "or set SWITCHBOARD_DATA_DIR to another directory."
            )
        self.pid = int(answer)

    def ended(self) -> bool:
        return self._guard.poll() is not None

    def stop(self) -> None:
        """Ends the server as its own stop does, and waits for it."""
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe is not None:
                pipe.close()
        self._guard.wait(PATIENCE_S + 10)

    def kill(self) -> None:
        """SIGKILL to the server, as a crash would be, and waits for its end."""
        os.kill(self.pid, signal.SIGKILL)
        self.stop()


def free_port() -> int:
    """A loopback port that nobody listens on, below those that systems give to clients: until its server binds it, no
    connection of somebody else's can come to begin there."""
    while True:
        port = 15_000 + secrets.randbelow(17_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def listens(port: int) -> bool:
    """Whether somebody accepts connections on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def require_free(port: int, what: str, variable: str, *, host: str = "127.0.0.1") -> None:
    """Raises `PortTaken` where somebody listens on the port of the address, by default of loopback."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise EmbeddedServerError(
                    f"{what[0].upper()}{what[1:]} cannot listen on {host} ({(error.strerror or 'error').lower()}); "
                    "give an address of this machine."
                ) from None
            raise PortTaken(
                f"Port {port} on {host} is taken, so {what} cannot use it; set {variable} to a free port."
            ) from None


def raise_open_file_limit() -> None:
    """The broker keeps several files open per partition. Raises `EmbeddedServerError` where too few are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if most < _FEWEST_OPEN_FILES:
        raise EmbeddedServerError(
            f"This shell allows {most} open files, and the broker needs at least {_FEWEST_OPEN_FILES}; "
            f"raise the hard limit (`ulimit -Hn`), or start from another shell."
        )
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def require_writable(directory: Path) -> None:
    """Makes the directory, and raises `DirectoryUnusable` where nothing can be written to it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory) as probe:
            probe.write(bytes(64 * 1024))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise DirectoryUnusable(
            f"{directory} cannot be written to ({(error.strerror or 'error').lower()}); "
            "make room or set SWITCHBOARD_DATA_DIR to another directory."
        ) from None


def last_lines(log: Path, count: int = 400) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    except OSError:
        return ""
