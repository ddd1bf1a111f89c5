"""The testbed of the message router's fault rounds: a broker, a database, a decider, and router processes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from contracts import topics
from contracts.ids import new_id
from contracts.kafka.client_shutdown import close_client
from contracts.kafka.publisher import Publisher
from contracts.outcome import CommandAccepted
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import USER, EmbeddedPostgres
from services.infrastructure.postgres import migrate, pool_of
from services.message_router.service import MIGRATIONS
from tests.faults.message_router.process import ProcessOptions
from tests.faults.message_router.traffic import COUNTRIES, Plan, Sent, filled_in, rate_book
from tests.faults.service_process import ServiceProcess
from tests.installation import Installation

_DECIDED_WITHIN_S = 180
_AWAY = (
    *(OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.InterfaceError),
    *(asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError),  # it was lost, and no router has begun yet
)


@dataclass(slots=True)
class Testbed:
    """Everything but the routers, running. ``books`` is the newest rate book's version, ``switched``
    the channel of the round whose SMS is switched off, ``numbers`` those of all rounds' recipients."""

    __test__ = False  # a name that begins with Test is no test class

    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres
    installation: Installation
    publisher: Publisher
    books: int = 0
    round: int = 0
    switched: str = ""
    numbers: set[str] = field(default_factory=set)
    routers: list[ServiceProcess] = field(default_factory=list)

    def router(self, options: ProcessOptions | None = None) -> ServiceProcess:
        log = self.installation.directory / "message-router.log"
        started = ServiceProcess(
            "tests.faults.message_router.process",
            self.installation.environment,
            log,
            (options or ProcessOptions()).model_dump_json(),
        )
        self.routers.append(started)
        return started

    async def until_a_router_runs(self) -> None:
        """Or came to its step, which may be earlier."""
        while not any(one.ready.is_set() or one.signalled.is_set() for one in self.routers):
            await asyncio.sleep(0.05)

    async def stop_routers(self) -> None:
        await asyncio.gather(*(router.stop() for router in self.routers))
        self.routers.clear()

    async def command(self, account: str, channel: str, kind: str, data: dict[str, Any]) -> int:
        """The channel's version after it. A decider may take long to come back after the broker was away."""
        outcome = await self.publisher.send_raw(kind, data, channel=channel, account=account, timeout=_DECIDED_WITHIN_S)
        assert isinstance(outcome.body, CommandAccepted), outcome.body
        return outcome.body.version

    async def apply_rate_book(self) -> None:
        self.books += 1
        envelope = {"specversion": "1.0", "id": new_id(), "type": "ApplyRateBook", "source": "faults"}
        data = rate_book(self.books, (*COUNTRIES, "FR"))
        value = json.dumps(envelope | {"subject": "rate-book", "accountid": "operator", "data": data}).encode()
        await self.send([Sent(0, topics.RATES.name, 0, b"rate-book", value)])

    async def send(self, records: Sequence[Sent]) -> None:
        """Sends each at its time, as long as the broker may be away."""
        producer = await self._producer()
        started = time.monotonic()
        sends = []
        try:
            for record in records:
                await asyncio.sleep(max(0.0, record.at_s - (time.monotonic() - started)))
                sends.append(
                    await producer.send(record.topic, filled_in(record), key=record.key, partition=record.partition)
                )
            await asyncio.gather(*sends)
        finally:
            await producer.stop()

    async def _producer(self) -> Any:
        """A producer that is started as soon as the broker is up."""
        while True:
            producer: Any = AIOKafkaProducer(
                bootstrap_servers=self.kafka.bootstrap_servers, enable_idempotence=True, request_timeout_ms=120_000
            )
            try:
                await producer.start()
            except KafkaConnectionError:
                await close_client(producer)
                await asyncio.sleep(0.5)
            else:
                return producer

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        """Runs the query as soon as the database is up."""
        while True:
            try:
                connection = await asyncpg.connect(self.postgres.dsn, timeout=5)
                try:
                    return list(await connection.fetch(query, *arguments))
                finally:
                    await connection.close()
            except _AWAY:
                await asyncio.sleep(0.2)

    async def copy_database(self) -> None:
        """Nobody may be connected to it."""
        name = urlsplit(self.postgres.dsn).path[1:]
        await self._beside("DROP DATABASE IF EXISTS older", f"CREATE DATABASE older TEMPLATE {name} OWNER {USER}")

    async def lose_database(self, *, copied: bool) -> None:
        """The copy takes its place, or an empty one."""
        name = urlsplit(self.postgres.dsn).path[1:]
        other = f"ALTER DATABASE older RENAME TO {name}" if copied else f"CREATE DATABASE {name} OWNER {USER}"
        await self._beside(f"DROP DATABASE {name} WITH (FORCE)", other)

    async def _beside(self, *statements: str) -> None:
        password = (self.installation.directory.parent / "postgres" / "superuser-password").read_text().strip()
        connection = await asyncpg.connect(self.postgres.dsn, user="postgres", password=password, database="postgres")
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def switch(self, plan: Plan, *, on: bool) -> float:
        """Switches SMS on the round's first channel, and returns when (Unix seconds): sent for on, answered for off."""
        before = time.time()
        await self.command(plan.account, plan.channels[0], "ToggleSms", {"enabled": on})
        return before if on else time.time()


@asynccontextmanager
async def open_testbed(directory: Path) -> AsyncIterator[Testbed]:
    kafka, postgres = EmbeddedKafka(directory / "kafka"), EmbeddedPostgres(directory / "postgres")
    try:
        await asyncio.gather(asyncio.to_thread(kafka.start), asyncio.to_thread(postgres.start))
        installation = Installation(
            kafka.bootstrap_servers, postgres.dsn, directory / "services", services=["decider"], receivers=1
        )
        await asyncio.to_thread(installation.__enter__)
        try:
            async with installation.publisher("acme") as publisher:
                pool = await pool_of(installation.settings, size=1)
                await migrate(pool, "message_router", MIGRATIONS)
                await pool.close()
                testbed = Testbed(kafka, postgres, installation, publisher)
                await testbed.apply_rate_book()
                yield testbed
        finally:
            await asyncio.to_thread(installation.__exit__, None, None, None)
    finally:
        await asyncio.gather(asyncio.to_thread(kafka.stop), asyncio.to_thread(postgres.stop))
