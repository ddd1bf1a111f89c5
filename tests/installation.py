"""A whole Switchboard for the tests: its services as processes, on a broker and a database that are there already."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import asyncpg

from contracts.kafka.publisher import Publisher
from services.cli.service_child import Child
from services.gateway.authentication import api_keys
from services.gateway.authentication.roles import Scope
from services.gateway.database_schemas import apply_database
from services.infrastructure.config import Settings
from services.infrastructure.embedded.process import free_port
from services.infrastructure.postgres import pool_of
from services.infrastructure.topics import apply_topics
from services.infrastructure.vault import KeyRing
from tests.api_document import require_described
from tests.servers import PARTITIONS

Result = TypeVar("Result")

SERVICES = ("decider", "projector", "invoker", "message-router", "gateway")


def fresh(prefix: str) -> str:
    """A name that no other test, and no earlier run on the same broker, has used."""
    return f"{prefix}-{uuid4().hex[:12]}"


def run_apart(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs it in a thread of its own, because the caller may be in an event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def fresh_database(dsn: str) -> str:
    """Makes an empty database beside the one that ``dsn`` names, and returns its DSN."""
    name = fresh("test").replace("-", "_")

    async def make() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()

    run_apart(make())
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP request was answered with; ``body`` is the parsed JSON."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Api:
    """A client of the routes under ``/v1``. Each answer must be one that the OpenAPI document has."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def __call__(self, method: str, path: str, body: object = None, **options: Any) -> Answer:
        """``path`` is below ``/v1/``; ``body`` is sent as JSON unless None."""
        if body is not None:
            options["json"] = body
        async with self.session.request(method, path, **options) as response:
            answer = Answer(response.status, await response.json(content_type=None), response.headers)
            require_described(method, response.url.path, answer.status, answer.headers, answer.body)
            return answer


class Installation:
    """A context manager; the services named are running and ready inside it.

    ``environment`` is what a process needs to be part of it. Signed calls may go to 127.0.0.1 on `receiver_port`.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        dsn: str,
        directory: Path,
        *,
        services: Iterable[str] = SERVICES,
        receivers: int = 12,
        retry_seconds: str = "0.2,0.2,0.2",
        partitions: int = PARTITIONS,
        logins: Callable[[str], dict[str, str]] = lambda _: {},
        variables: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.logins = logins
        self.bootstrap_servers = bootstrap_servers
        self.http_port = free_port()
        self._receiver_ports = [free_port() for _ in range(receivers)]
        self.keyring = KeyRing.make()
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")
        } | {
            "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "SWITCHBOARD_DATABASE_URL": dsn,
            "SWITCHBOARD_DATA_DIR": str(directory),
            "SWITCHBOARD_HTTP_PORT": str(self.http_port),
            "SWITCHBOARD_PARTITIONS": str(partitions),
            "SWITCHBOARD_KEYRING": self.keyring,
            "SWITCHBOARD_INVOKER_ALLOW": ",".join(f"127.0.0.1:{port}" for port in self._receiver_ports),
            "SWITCHBOARD_INVOKER_RETRY_SECONDS": retry_seconds,
            # All receivers are on one host, and some fail from the start.
            "SWITCHBOARD_INVOKER_CALLS_PER_HOST": "100000",
            "SWITCHBOARD_INVOKER_UNVERIFIED_CALLS_PER_MINUTE": "6000",
            **(variables or {}),
        }
        self.services = {name: self.child(name) for name in services}
        for child in self.services.values():
            child.environment["SWITCHBOARD_METRICS_PORT"] = str(free_port())

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environment)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def receiver_port(self) -> int:
        """A port of loopback that calls may reach; each is given out once."""
        return self._receiver_ports.pop()

    def child(self, service: str, copy: str = "") -> Child:
        """A process of that service, not started; ``copy`` tells the logs of several apart."""
        return Child(service, self.environment_of(service), self.directory / f"{service}{copy}.log")

    def environment_of(self, service: str) -> dict[str, str]:
        """With the service's own logins to the embedded servers."""
        environment = self.environment | self.logins(service)
        database = urlsplit(self.environment["SWITCHBOARD_DATABASE_URL"]).path
        own = urlsplit(environment["SWITCHBOARD_DATABASE_URL"])._replace(path=database)
        return environment | {"SWITCHBOARD_DATABASE_URL": own.geturl()}

    def __enter__(self) -> Self:
        asyncio.run(apply_topics(self.bootstrap_servers, self.settings.partitions, {}))
        if set(self.services) != {"decider"}:  # which needs none
            asyncio.run(self._apply_database())
        try:
            for child in self.services.values():
                child.start()
            for child in self.services.values():
                child.wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    async def _apply_database(self) -> None:
        pool = await pool_of(self.settings, size=1)
        try:
            await apply_database(pool)
        finally:
            await pool.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for child in self.services.values():
            child.stop()
        for child in self.services.values():
            child.wait()

    def restart(self, service: str) -> None:
        child = self.services[service]
        child.wait()
        child.start()
        child.wait_until_ready()

    def kill(self, service: str) -> None:
        """SIGKILL, and waits for its end."""
        process = self.services[service].process
        if process is not None:
            process.kill()
            process.wait()

    def api_key(self, account: str | None) -> str:
        """A token for the account; for the platform where None."""

        async def make() -> str:
            pool = await pool_of(self.settings, size=1)
            try:
                return await api_keys.create(pool, scope=Scope(account), label="test")
            finally:
                await pool.close()

        return run_apart(make())

    @asynccontextmanager
    async def api(self, account: str | None, **headers: str) -> AsyncIterator[Api]:
        """The HTTP API with a fresh key of the account; for the platform where None."""
        authorization = {"Authorization": f"Bearer {self.api_key(account)}"}
        async with aiohttp.ClientSession(f"{self.address}/v1/", headers=authorization | headers) as session:
            yield Api(session)

    @asynccontextmanager
    async def publisher(self, account: str | None = None) -> AsyncIterator[Publisher]:
        async with Publisher(self.bootstrap_servers, source="tests", account=account) as publisher:
            yield publisher

    def output(self) -> str:
        """Everything that the services said."""
        return "".join(path.read_text(errors="replace") for path in self.directory.glob("*.log"))
