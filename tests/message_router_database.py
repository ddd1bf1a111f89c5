"""The message router's transactions on a database of their own, without a broker; and the records they take."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from contracts.message import rfc3339
from contracts.partitioner import partition_of
from services.infrastructure.checkpoints import MIGRATIONS as CHECKPOINTS
from services.infrastructure.event_log import NO_EVENT
from services.infrastructure.postgres import Pool, migrate
from services.infrastructure.vault import KeyRing
from services.message_router.ingest import Ingest
from services.message_router.ownership import NAME, Ownership
from services.message_router.pending import PendingRequests
from services.message_router.publisher import ENSURE, VERIFY
from services.message_router.rate_book import CurrentRates, apply_rate_books
from services.message_router.recipients import Recipients
from services.message_router.requests import RequestReader
from services.message_router.scheduling_resources import apply_reports
from services.message_router.service import MIGRATIONS
from services.message_router.settings_replica import apply_events
from services.message_router.timers import Timers

INDIAN = "+919812345678"
PARTITIONS = 4
PARTITION = partition_of("ch", PARTITIONS)
OWNED = Ownership(frozenset(range(PARTITIONS)))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """As the consumer hands it over."""

    value: bytes | None
    key: bytes | None = b"ch"
    topic: str = "switchboard.message-requests"
    partition: int = 1
    offset: int = 41
    timestamp: int = field(default_factory=now_ms)


def command(kind: str, command_id: str, data: dict[str, Any], subject: str = "ch", account: str = "acme") -> Record:
    envelope = {"specversion": "1.0", "id": command_id, "type": kind, "source": "tests"}
    value = json.dumps(envelope | {"subject": subject, "accountid": account, "data": data})
    return Record(value.encode(), subject.encode())


def message(message_id: str, recipient: str = INDIAN, account: str = "acme", **data: Any) -> Record:
    content = {"recipient": recipient, "category": "authentication", **data}
    return command("RouteMessage", message_id, content, account=account)


def status(message_id: str, status: str, via: str = "chat", at: str | None = None) -> Record:
    content = {"message": message_id, "status": status, "via": via, "at": at or rfc3339(now_ms())}
    return command("ReportStatus", f"report-{message_id}-{status}-{now_ms()}", content)


def report(resource: str, units: int, as_of: int | None = None, country: str = "IN", seconds: int = 600) -> Record:
    content = {"resource": resource, "country": country, "sender": "+911234567890", "units": units}
    moment = rfc3339(now_ms() if as_of is None else as_of)
    return command(
        "ReportSchedulingResource", f"r-{resource}", content | {"as_of": moment, "valid_seconds": seconds}, resource
    )


@dataclass(slots=True)
class RouterDatabase:
    pool: Pool
    rates: CurrentRates = field(default_factory=CurrentRates)
    ingest: Ingest = field(init=False)
    timers: Timers = field(init=False)

    def __post_init__(self) -> None:
        self.use(Timers(self.pool, LogWithEnd(-1), NAME, OWNED, self.rates, lambda _: None))

    def use(self, timers: Timers) -> None:
        reader = RequestReader(Recipients(KeyRing.parse(KeyRing.make())), PARTITIONS)
        self.timers, self.ingest = timers, Ingest(reader, self.rates, timers, lambda _: None)

    async def apply(self, *records: Record) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            await self.ingest.apply(connection, PARTITION, records)

    async def report(self, *records: Record) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            await apply_reports(connection, 1, records)

    async def rate_book(self, version: int, amount: str) -> None:
        rate = {"country": "IN", "fee_class": "scheduled", "currency": "AED", "amount": amount, "from": "2026-01-01"}
        async with self.pool.acquire() as connection, connection.transaction():
            await apply_rate_books(
                connection, 1, [command("ApplyRateBook", "rates", {"version": version, "rates": [rate]})]
            )

    async def event(self, kind: str, sequence: int, data: dict[str, Any], channel: str = "ch") -> None:
        envelope: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"e{sequence}",
            "type": kind,
            "source": "switchboard",
            "data": data,
        }
        envelope |= {"subject": channel, "accountid": "acme", "time": "2026-11-26T08:00:00Z", "resource": "channel"}
        envelope |= {"sequence": sequence, "partitionsequence": sequence, "previoushash": "0" * 64}
        value = json.dumps(envelope | {"causationid": "c", "correlationid": "c"}).encode()
        async with self.pool.acquire() as connection, connection.transaction():
            await apply_events(connection, 1, [Record(value)])

    async def settings(self, *, own_numbers: bool = False, sms: bool = False) -> None:
        """Channel ``ch`` of ``acme``, a whatsapp channel with scheduling for IN."""
        registered = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
        await self.event("ChannelRegistered", 1, registered)
        scheduling = {"enabled": True, "countries": ["IN"], "use_own_numbers": own_numbers}
        await self.event("OtpSchedulingSaved", 2, scheduling)
        await self.event("SmsActivated" if sms else "SmsDeactivated", 3, {})

    async def published(self, topic: str = "message-decisions") -> list[dict[str, Any]]:
        rows = await self.pool.fetch(
            "SELECT value FROM message_router.outbox WHERE topic = $1 ORDER BY number", f"switchboard.{topic}"
        )
        return [json.loads(row["value"]) for row in rows]

    async def told(self) -> list[tuple[str, str, str]]:
        """Message, type, and what the notice says in a word."""
        words = ("route", "ended", "trigger", "reason", "status")
        return [
            (one["data"]["message"], one["type"], str(next((one["data"][w] for w in words if one["data"].get(w)), "")))
            for one in await self.published()
        ]

    async def resolve(self, log: Any) -> None:
        """Looks at the waiting requests, with an event log that says where the log ends."""
        await PendingRequests(self.pool, log, NAME, OWNED, self.rates, lambda _: None, wait_ms=-1).run_once()


async def verify_partitions(pool: Pool) -> None:
    """As their publishers do at their start."""
    for statement in (ENSURE, VERIFY):
        await pool.execute(statement, list(range(PARTITIONS)))


@asynccontextmanager
async def router_database(database_url: str) -> AsyncIterator[RouterDatabase]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as pool:
        await migrate(pool, "checkpoints", CHECKPOINTS)
        await migrate(pool, "message_router", MIGRATIONS)
        await verify_partitions(pool)
        yield RouterDatabase(pool)


@dataclass(frozen=True, slots=True)
class LogWithEnd:
    """A log of events whose last offset is the same in each partition."""

    last: int

    async def partition_count(self) -> int:
        return PARTITIONS

    async def lineage(self, channels: Collection[str]) -> dict[str, list[int]]:
        return {channel: [partition_of(channel, PARTITIONS)] for channel in channels}

    async def families(self, partitions: Collection[int]) -> dict[int, list[int]]:
        return {partition: [partition] for partition in partitions}

    async def last_offsets(self, applied: Mapping[int, int], partitions: Collection[int]) -> dict[int, int]:  # noqa: ARG002
        return dict.fromkeys(partitions, self.last)


class GrownLog(LogWithEnd):
    """The channels moved to a partition that was added; each partition's last event has the offset ``last``."""

    ADDED = PARTITIONS

    async def families(self, partitions: Collection[int]) -> dict[int, list[int]]:
        return {partition: [partition, self.ADDED] for partition in partitions}

    async def lineage(self, channels: Collection[str]) -> dict[str, list[int]]:
        return {channel: [self.ADDED, *before] for channel, before in (await super().lineage(channels)).items()}

    async def last_offsets(self, applied: Mapping[int, int], partitions: Collection[int]) -> dict[int, int]:
        return {one: self.last if applied.get(one, 0) <= self.last else NO_EVENT for one in partitions}
