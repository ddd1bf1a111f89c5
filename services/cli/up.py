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
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from projections import settings_queries
from services.cli.demo import CHANNEL, DEMO_ACCOUNT, Demo
from services.cli.running import SERVICES, ready_line
from services.gateway import api_keys
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from services.infrastructure.embedded.process import EmbeddedServerError, require_free, require_writable
from services.infrastructure.kafka import security_options
from services.infrastructure.postgres import migrate, pool_of
from services.infrastructure.settings import Settings
from services.infrastructure.topics import apply_topics
from services.infrastructure.vault import KeyRing

_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 12.0
_CALM_AFTER_S = 30.0


def say(text: str) -> None:
    typer.echo(text)


def kept_secret(path: Path, make: str) -> str:
    """The secret in the file; ``make`` goes into it, readable by its owner alone, where there is none."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(make)
    return path.read_text()


@dataclass(slots=True)
class Child:
    """A service as a child process that ends when we do: it reads the pipe that we hold."""

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
                [sys.executable, "-m", "services.cli", "run", self.service, "--with-parent"],
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
                last = (self.log.read_text().strip().splitlines() or ["it said nothing"])[-1]
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
        """Starts it again if it ended, the later the more often it did."""
        if self.process is None or self.process.poll() is None:
            return
        self.failures = 1 if time.monotonic() - self.started > _CALM_AFTER_S else self.failures + 1
        say(f"The {self.service} ended; it starts again. See {self.log}")
        time.sleep(min(30.0, 2.0 ** (self.failures - 1)) * random.uniform(0.8, 1.2))  # noqa: S311 -- jitter
        self.start()


def run_everything(settings: Settings, *, demo: bool) -> None:
    """Returns after SIGTERM or Ctrl-C, everything stopped. Raises `EmbeddedServerError` and `SettingsError`."""
    stopping = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    data = settings.data_dir
    require_writable(data)
    require_free(settings.http_port, "the API", "SWITCHBOARD_HTTP_PORT")
    (data / "logs").mkdir(exist_ok=True)
    with ExitStack() as stack:
        servers: list[EmbeddedKafka | EmbeddedPostgres] = []
        environment = _with_servers(settings, stack, servers)
        receiver = stack.enter_context(Demo(data)) if demo else None
        if receiver is not None:
            allowed = [*settings.invoker_allow, receiver.place]
            environment["SWITCHBOARD_INVOKER_ALLOW"] = ",".join(allowed)
        given = Settings.from_environment(environment)
        asyncio.run(apply_topics(given.kafka_bootstrap_servers or "", given.partitions, security_options(environment)))
        children = [Child(service, environment, data / "logs" / f"{service}.log") for service in SERVICES]
        stack.callback(_stop_all, children)
        for child in children:
            child.start()
        for child in children:
            child.wait_until_ready()
        keys = asyncio.run(_api_keys(given))
        if receiver is not None:
            version = asyncio.run(
                receiver.walk(given.kafka_bootstrap_servers or "", security_options(environment), say)
            )
            asyncio.run(_until_shown(given, version))
        address = f"http://{given.http_host}:{given.http_port}"
        say("")
        say(f"Console            {address}/")
        say(f"API                {address}/v1  (described at {address}/docs)")
        say(f"Kafka bootstrap    {given.kafka_bootstrap_servers}")
        say(f"Postgres DSN       {given.database_url}")
        say(f"API key            {keys[0]}  (account {DEMO_ACCOUNT})")
        say(f"Platform API key   {keys[1]}  (registers channels, for the account in Switchboard-Account)")
        say(f"Data and logs      {data}")
        say("Switchboard is ready")
        while not stopping.wait(0.5):
            for server in servers:
                if server.ended():
                    say(f"{server.name} ended; it starts again. See {server.log}")
                    server.stop()
                    server.start()
            for child in children:
                child.revive()


def _with_servers(
    settings: Settings, stack: ExitStack, servers: list[EmbeddedKafka | EmbeddedPostgres]
) -> dict[str, str]:
    """Starts what the environment does not name, side by side; returns the environment that names it all."""
    environment = dict(os.environ) | {"SWITCHBOARD_DATA_DIR": str(settings.data_dir)}
    if settings.kafka_bootstrap_servers is None:
        kafka = EmbeddedKafka(settings.data_dir / "kafka", settings.kafka_port)
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
        environment["SWITCHBOARD_KEYRING"] = kept_secret(settings.data_dir / "keyring", KeyRing.make())
    return environment


def _stop_all(children: list[Child]) -> None:
    say("Stopping …")
    for child in children:
        child.stop()
    for child in children:
        child.wait()


async def _until_shown(settings: Settings, version: int) -> None:
    """Returns when the read model has what the walk did, so that who is told "ready" finds it."""
    pool = await pool_of(settings, size=1)
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while version > await settings_queries.channel_version(pool, DEMO_ACCOUNT, CHANNEL):  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # it moves in another process
    except TimeoutError:
        raise EmbeddedServerError(
            "The read model does not follow; see logs/projector.log in the data directory."
        ) from None
    finally:
        await pool.close()


async def _api_keys(settings: Settings) -> tuple[str, str]:
    """An account's key and the platform's, made once."""
    pool = await pool_of(settings, size=1)
    try:
        await migrate(pool, "gateway", api_keys.MIGRATIONS)

        async def key(name: str, role: api_keys.Role, account: str | None) -> str:
            path = settings.data_dir / name
            if path.exists() and await api_keys.access_of(pool, path.read_text()) is not None:
                return path.read_text()
            path.unlink(missing_ok=True)
            return kept_secret(path, await api_keys.create(pool, role=role, account=account, label="made by up"))

        return await key("api-key", "account", DEMO_ACCOUNT), await key("platform-api-key", "platform", None)
    finally:
        await pool.close()
