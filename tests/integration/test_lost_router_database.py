"""A message router whose database is lost, or is an older copy: what was decided stands, and nothing is told twice.

Meanwhile rates, scheduling and a spend guard change, so that everything would be decided otherwise.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from contracts import topics
from contracts.ids import new_id
from contracts.kafka.publisher import Publisher
from contracts.message_routing import RouteMessage, SmsFallback
from contracts.message_status import ReportStatus, Status
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.rates import RATE_BOOK
from contracts.scheduling_resource import ReportSchedulingResource
from contracts.sms import ToggleSms
from contracts.spend_guard import SaveSpendGuard
from services.infrastructure.embedded.kafka import EmbeddedKafka
from tests.commands import REGISTER
from tests.installation import Installation, fresh, fresh_database
from tests.messages import SENDER, SINGAPOREAN, now
from tests.patience import PATIENCE_S
from tests.servers import PARTITIONS, Servers

pytestmark = pytest.mark.timeout(240)

OTP = RouteMessage(recipient=SINGAPOREAN, category="authentication")
WITH_FALLBACK = RouteMessage(
    recipient=SINGAPOREAN, category="authentication", sms_fallback=SmsFallback(to=SINGAPOREAN, on=("failed",))
)
DECISIONS, USAGE, REQUESTS = topics.MESSAGE_DECISIONS.name, topics.USAGE.name, topics.MESSAGE_REQUESTS.name
_BEGUN = """
    SELECT (SELECT count(*) FROM message_router.channels WHERE channel = ANY($1) AND version > 1) = 2
        AND EXISTS (SELECT FROM message_router.resources) AND EXISTS (SELECT FROM message_router.rate_books)
"""
_OPEN = """
    SELECT (SELECT count(*) FROM message_router.messages WHERE state = 'waiting')
        + (SELECT count(*) FROM message_router.messages WHERE fallback IN ('armed', 'failed') AND fires_at IS NOT NULL)
        + (SELECT count(*) FROM message_router.outbox) AS open,
        (SELECT sum(next_offset) FROM switchboard.checkpoints
            WHERE consumer = 'switchboard.message-router' AND topic = $1) AS read
"""
# Not when a request came: that is of the router that reads it.
_STATE = {
    "messages": "message, state, digest, category, country, recipient_hash, decision::text, refusal::text, resource, "
    "reservation, reserved_until, posted_late, fallback_on, fallback_to IS NULL, fallback, seen, double_charge_told, "
    "decided_at, settings_version, next_timer",
    "statuses": "message, via, status, at, error",
    "notices": "message, type, told_at, data::text",
    "usage": "*",
    "daily_messages": "*",
    "resources": "*",
}


class Scenario:
    """A channel with scheduling and one with a spend guard, and what is asked for on them."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.account, self.shop, self.guarded, self.nowhere = (
            fresh(name) for name in ("acct", "shop", "guard", "none")
        )
        self.dsn = str(installation.settings.database_url)

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publisher]:
        async with self.installation.publisher(self.account) as publisher:
            yield publisher

    async def begin(self, publisher: Publisher) -> None:
        for channel in (self.shop, self.guarded):
            await publisher.send(REGISTER, channel=channel)
        await publisher.send(_scheduling(enabled=True), channel=self.shop)
        await publisher.send(SaveSpendGuard(mode="enforce", daily_messages_per_country=1), channel=self.guarded)
        await publisher.send(ToggleSms(enabled=True), channel=self.shop)
        await self.rates("0.0101")
        report = ReportSchedulingResource(
            resource="pool", country="SG", sender=SENDER, units=4, as_of=now(), valid_seconds=3600
        )
        await publisher.publish(report, channel="pool")
        async with self.database() as database, asyncio.timeout(PATIENCE_S):
            while not await database.fetchval(_BEGUN, [self.shop, self.guarded]):  # noqa: ASYNC110 -- another process'
                await asyncio.sleep(0.1)

    async def before_the_copy(self, publisher: Publisher) -> None:
        for name in ("posted-early", "posted-later"):
            await publisher.publish(OTP, channel=self.shop, command_id=name)
        await publisher.publish(WITH_FALLBACK, channel=self.shop, command_id="failing")
        await self.status(publisher, "posted-early", "delivered")
        await publisher.publish(OTP, channel=self.guarded, command_id="first-of-the-day")

    async def after_the_copy(self, publisher: Publisher) -> None:
        await publisher.publish(OTP, channel=self.shop, command_id="open")
        await publisher.publish(OTP, channel=self.shop, command_id="exhausted")
        await publisher.publish(OTP, channel=self.shop, command_id="posted-early")
        await publisher.publish(WITH_FALLBACK, channel=self.shop, command_id="posted-early")
        await publisher.publish(OTP, channel=self.guarded, command_id="second-of-the-day")
        await publisher.publish(OTP, channel=self.nowhere, command_id="unknown")
        await self.status(publisher, "posted-later", "sent")
        await self.status(publisher, "failing", "failed")
        await self.status(publisher, "unknown", "sent", self.nowhere)

    async def change_everything(self, publisher: Publisher) -> None:
        await self.rates("0.9999")
        await publisher.send(_scheduling(enabled=False), channel=self.shop)
        await publisher.send(SaveSpendGuard(mode="off"), channel=self.guarded)
        await publisher.send(REGISTER, channel=self.nowhere)

    async def status(self, publisher: Publisher, message: str, status: Status, channel: str = "") -> None:
        report = ReportStatus(message=message, status=status, via="chat", at=now())
        await publisher.publish(report, channel=channel or self.shop, command_id=new_id())

    async def rates(self, amount: str) -> None:
        rate = {"country": "SG", "fee_class": "scheduled", "currency": "AED", "amount": amount, "from": "2026-01-01"}
        envelope = {"specversion": "1.0", "id": new_id(), "type": "ApplyRateBook", "source": "tests"}
        envelope |= {"subject": RATE_BOOK, "accountid": "operator"}
        data = {"version": int(amount[2:]), "rates": [rate]}
        producer: Any = AIOKafkaProducer(bootstrap_servers=self.installation.bootstrap_servers)
        await producer.start()
        try:
            value = json.dumps(envelope | {"data": data}).encode()
            await producer.send_and_wait(topics.RATES.name, value, key=RATE_BOOK.encode(), partition=0)
        finally:
            await producer.stop()

    @asynccontextmanager
    async def database(self, name: str = "") -> AsyncIterator[Any]:
        """A connection to the router's database, or the one of that name beside it."""
        dsn = urlsplit(self.dsn)._replace(path=f"/{name}").geturl() if name else self.dsn
        connection = await asyncpg.connect(dsn)
        try:
            yield connection
        finally:
            await connection.close()

    async def settled(self) -> None:
        """Waits until every request is read, decided and published."""
        async with asyncio.timeout(PATIENCE_S):
            asked = sum((await self._ends(REQUESTS)).values())
            while True:
                async with self.database() as database:
                    try:
                        row = await database.fetchrow(_OPEN, REQUESTS)
                    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                        row = None
                if row is not None and row["open"] == 0 and row["read"] == asked:
                    return
                await asyncio.sleep(0.2)

    async def state(self) -> dict[str, list[tuple[Any, ...]]]:
        async with self.database() as database:
            rows = {
                table: await database.fetch(f"SELECT {columns} FROM message_router.{table}")  # noqa: S608
                for table, columns in _STATE.items()
            }
        return {table: sorted((tuple(row) for row in found), key=repr) for table, found in rows.items()}

    async def _ends(self, topic: str) -> dict[TopicPartition, int]:
        async with self._consumer() as consumer:
            found: dict[TopicPartition, int] = await consumer.end_offsets(_partitions(topic))
            return found

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[Any]:
        consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=self.installation.bootstrap_servers, isolation_level="read_committed"
        )
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    async def published(self) -> list[dict[str, Any]]:
        """The account's records of decisions and usage, in the order of the topics."""
        found = []
        async with self._consumer() as consumer:
            tps = _partitions(DECISIONS) + _partitions(USAGE)
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            for tp in tps:
                consumer.seek(tp, 0)
            by_partition: dict[TopicPartition, list[Any]] = {tp: [] for tp in tps}
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    by_partition[tp] += records
        for records in by_partition.values():
            found += [json.loads(record.value) for record in records]
        return [one for one in found if one["accountid"] == self.account]


def _partitions(topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(PARTITIONS)]


def _scheduling(*, enabled: bool) -> SaveOtpScheduling:
    return SaveOtpScheduling(enabled=enabled, countries=["SG"], use_own_numbers=False)


def _told(records: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Message, type, and what it says in a word."""
    words = ("route", "ended", "trigger", "reason", "status", "amount")
    return sorted(
        (one["data"]["message"], one["type"], str(next((one["data"][w] for w in words if one["data"].get(w)), "")))
        for one in records
    )


def _stop_router(running: Installation) -> None:
    """So that its partitions are handed over at once; nothing is under way."""
    router = running.services["message-router"]
    router.stop()
    router.wait()


@pytest.fixture
def running(
    own_kafka: EmbeddedKafka, shared_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    with Installation(
        own_kafka.bootstrap_servers,
        fresh_database(shared_servers.dsn),
        tmp_path_factory.mktemp("lost"),
        services=("decider", "message-router"),
    ) as installation:
        yield installation


@pytest.mark.parametrize("lost", ["whole", "newest"])
async def test_what_was_decided_before_the_database_was_lost_stands(
    running: Installation, shared_servers: Servers, lost: str
) -> None:
    scenario = Scenario(running)
    name = urlsplit(scenario.dsn).path[1:]
    other = urlsplit(shared_servers.dsn).path[1:]
    async with scenario.publisher() as publisher:
        await scenario.begin(publisher)
        await scenario.before_the_copy(publisher)
        await scenario.settled()
        if lost == "newest":
            await asyncio.to_thread(_stop_router, running)
            async with scenario.database(other) as server:
                await server.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
            await asyncio.to_thread(running.restart, "message-router")
        await scenario.after_the_copy(publisher)
        await scenario.settled()
        told, state = await scenario.published(), await scenario.state()
        assert set(_told(told)) >= {
            ("posted-early", "MessageCharged", "0.0101"),
            ("posted-later", "MessageCharged", "0.0101"),
            ("failing", "ReservationSettled", "voided"),
            ("failing", "SmsFallbackDue", "failed"),
            ("open", "MessageRouted", "scheduled"),
            ("exhausted", "MessageRouted", "failed"),
            ("second-of-the-day", "MessageRouted", "failed"),
            ("unknown", "RoutingRefused", "ChannelUnknown"),
            ("unknown", "StatusRefused", "NotRouted"),
        }

        await asyncio.to_thread(_stop_router, running)
        async with scenario.database(other) as server:
            await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
            if lost == "newest":
                await server.execute(f"ALTER DATABASE {name}_copy RENAME TO {name}")
            else:
                await server.execute(f"CREATE DATABASE {name}")
        await scenario.change_everything(publisher)
        await asyncio.to_thread(running.restart, "message-router")
        await scenario.settled()
        assert await scenario.published() == told
        assert await scenario.state() == state

        await scenario.status(publisher, "open", "delivered")
        await scenario.status(publisher, "failing", "read")
        await publisher.publish(OTP, channel=scenario.shop, command_id="new")
        await scenario.settled()
    more = [one for one in await scenario.published() if one not in told]
    assert _told(more) == [
        ("failing", "DoubleChargeRisk", "read"),
        ("new", "MessageRouted", "not_applicable"),
        ("open", "MessageCharged", "0.9999"),
        ("open", "ReservationSettled", "posted"),
    ]
