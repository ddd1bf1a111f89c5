"""``switchboard up``: the embedded broker and database, every service as a child process, and the demo."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import typer

import services
from projections.settings import queries as settings_queries
from services.cli.connection_file import write_connection
from services.cli.demo import CHANNEL, DEMO_ACCOUNT, Demo
from services.cli.demo_messages import route_messages
from services.cli.run_service import ready_line
from services.cli.service_settings import SERVICES
from services.gateway.authentication import api_keys
from services.gateway.authentication.authenticator import authenticate
from services.gateway.authentication.roles import PLATFORM, Scope
from services.infrastructure.config import Settings
from services.infrastructure.embedded.acls import ADMIN, CUSTOMER
from services.infrastructure.embedded.credentials import client_properties, kcat_conf, write_private
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from services.infrastructure.embedded.private_files import keep_private
from services.infrastructure.embedded.process import (
    EmbeddedServerError,
    raise_open_file_limit,
    require_free,
    require_writable,
)
from services.infrastructure.kafka import security_options
from services.infrastructure.library_internals.asyncpg import database_addresses
from services.infrastructure.postgres import migrate, pool_of
from services.infrastructure.topics import apply_topics
from services.infrastructure.vault import KeyRing

_READY_TIMEOUT_S = 60.0
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


def stored_secret(path: Path, new: str) -> str:
    """Returns the secret in the file. A missing file is created with ``new``, readable by its owner only."""
    if not path.exists():
        write_private(path, new)
    return path.read_text()


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
        deadline = time.monotonic() + _READY_TIMEOUT_S
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
        time.sleep(min(30.0, 2.0 ** (self.failures - 1)) * random.uniform(0.8, 1.2))  # noqa: S311 -- jitter
        self.start()


def run_everything(settings: Settings, *, demo: bool) -> None:
    """Returns after SIGTERM or Ctrl-C, everything stopped. Raises `EmbeddedServerError` and `SettingsError`."""
    stopping = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    data = settings.data_dir
    raise_open_file_limit()
    require_writable(data)
    keep_private(data)
    require_free(settings.http_port, "the API", "SWITCHBOARD_HTTP_PORT", host=settings.http_host)
    (data / "logs").mkdir(exist_ok=True)
    with ExitStack() as stack:
        servers: list[EmbeddedKafka | EmbeddedPostgres] = []
        environment, logins = _with_servers(settings, stack, servers)
        receiver = stack.enter_context(Demo(data)) if demo else None
        if receiver is not None:
            allowed = [*settings.invoker_allow, receiver.address]
            environment["SWITCHBOARD_INVOKER_ALLOW"] = ",".join(allowed)
        given = Settings.from_environment(environment)
        as_admin, as_customer = environment | logins(ADMIN), environment | logins(CUSTOMER)
        asyncio.run(apply_topics(given.kafka_bootstrap_servers or "", given.partitions, security_options(as_admin)))
        children = [
            Child(service, environment_of(service, environment) | logins(service), data / "logs" / f"{service}.log")
            for service in SERVICES
        ]
        stack.callback(_stop_all, children)
        for child in children:
            child.start()
        for child in children:
            child.wait_until_ready()
        keys = asyncio.run(_api_keys(given))
        stack.callback(write_connection(data, as_admin).unlink, missing_ok=True)
        _write_client_files(data, logins(CUSTOMER))
        if receiver is not None:
            version = asyncio.run(
                receiver.walk(given.kafka_bootstrap_servers or "", security_options(as_customer), say)
            )
            asyncio.run(_wait_for_read_model(given, version))
            if version:
                asyncio.run(route_messages(given, security_options(as_admin), security_options(as_customer), say))
                receiver.finish()
        host = f"[{given.http_host}]" if ":" in given.http_host else given.http_host
        scheme = "http" if given.http_tls_certificate is None else "https"
        address = f"{scheme}://{host}:{given.http_port}"
        say("")
        say(f"Console            {address}/")
        say(f"API                {address}/v1  (described at {address}/docs)")
        say(f"Kafka bootstrap    {given.kafka_bootstrap_servers}")
        say(f"PostgreSQL         {', '.join(given.database_servers())}  (its DSN is in {data / 'connection.json'})")
        say(f"Kafka clients      {data / 'kcat.conf'} and client.properties have a login")
        say(f"API key            {keys[0]}  (account {DEMO_ACCOUNT})")
        say(f"Platform API key   {keys[1]}  (registers channels, for the account in Switchboard-Account)")
        say(f"Data and logs      {data}")
        say("Switchboard is ready")
        while not stopping.wait(0.5):
            for server in servers:
                if server.ended():
                    say(f"{server.name} ended and is restarted; see {server.log}")
                    server.stop()
                    server.start()
            for child in children:
                child.revive()


def environment_of(service: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What the service is told: no keyring and no login to the database where it needs none.

    Every service knows the database's address, which no call may reach.
    """
    given = dict(environment)
    if "keyring" not in SERVICES[service]:
        given.pop("SWITCHBOARD_KEYRING", None)
    if "database_url" not in SERVICES[service] and (url := given.get("SWITCHBOARD_DATABASE_URL")):
        addresses = database_addresses(url)
        hosts = ",".join(f"[{host}]" if ":" in host else host for host, _ in addresses)
        query = urlencode({"host": hosts, "port": ",".join(str(port) for _, port in addresses)})
        given["SWITCHBOARD_DATABASE_URL"] = f"postgresql:///?{query}"
    return given


def _with_servers(
    settings: Settings, stack: ExitStack, servers: list[EmbeddedKafka | EmbeddedPostgres]
) -> tuple[dict[str, str], Callable[[str], dict[str, str]]]:
    """Starts in parallel what the environment does not name.

    Returns the environment with all addresses, and what a principal adds to it; nothing on a broker of one's own.
    """
    logins: Callable[[str], dict[str, str]] = lambda _: {}  # noqa: E731
    environment = dict(os.environ) | {"SWITCHBOARD_DATA_DIR": str(settings.data_dir)}
    if settings.kafka_bootstrap_servers is None:
        kafka = EmbeddedKafka(settings.data_dir / "kafka", settings.kafka_port, secured=True)
        logins = kafka.environment
        environment["SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrap_servers
        servers.append(kafka)
    if settings.database_url is None:
        postgres = EmbeddedPostgres(settings.data_dir / "postgres", settings.postgres_port)
        servers.append(postgres)
    with ThreadPoolExecutor(2) as pool:
        starts: list[Future[Any]] = []
        for server in servers:
            say(f"Starting {server.name} …")
            stack.callback(server.stop)
            starts.append(pool.submit(server.start))
        for start in starts:
            start.result()
    if settings.database_url is None:
        environment["SWITCHBOARD_DATABASE_URL"] = postgres.dsn
    if settings.keyring is None:
        environment["SWITCHBOARD_KEYRING"] = stored_secret(settings.data_dir / "keyring", KeyRing.make())
    return environment, logins


def _write_client_files(data: Path, login: dict[str, str]) -> None:
    """For customers' clients; without a login, on a broker of one's own, there is nothing to write."""
    if login:
        given = Settings.from_environment(login)
        access = (given.kafka_bootstrap_servers or "", given.kafka_sasl_username or "", given.kafka_sasl_password or "")
        write_private(data / "kcat.conf", kcat_conf(*access))
        write_private(data / "client.properties", client_properties(*access))


def _stop_all(children: list[Child]) -> None:
    say("Stopping …")
    for child in children:
        child.stop()
    for child in children:
        child.wait()


async def _wait_for_read_model(settings: Settings, version: int) -> None:
    """Waits until the read model shows the demo's last version, so that a reader finds it after "ready"."""
    pool = await pool_of(settings, size=1)
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while version > await settings_queries.channel_version(pool, DEMO_ACCOUNT, CHANNEL):  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # it moves in another process
    except TimeoutError:
        raise EmbeddedServerError(
            "The read model did not catch up; see logs/projector.log in the data directory."
        ) from None
    finally:
        await pool.close()


async def _api_keys(settings: Settings) -> tuple[str, str]:
    """The account's and the platform's API key, created once per data directory."""
    pool = await pool_of(settings, size=1)
    try:
        await migrate(pool, "gateway", api_keys.MIGRATIONS)

        async def key(name: str, scope: Scope) -> str:
            path = settings.data_dir / name
            if path.exists() and await authenticate(pool, path.read_text()) is not None:
                return path.read_text()
            path.unlink(missing_ok=True)
            return stored_secret(path, await api_keys.create(pool, scope=scope, label="made by up"))

        return await key("api-key", Scope(DEMO_ACCOUNT)), await key("platform-api-key", PLATFORM)
    finally:
        await pool.close()
