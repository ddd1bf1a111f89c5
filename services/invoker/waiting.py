"""Requests for what is not known: they wait until everything is read that the log held when they came.

The requests and the settings come on different topics, so a request may be read before the event that it relies on.
It is refused only once every event is applied that was in the log when it was read. A request that names a
``settings_version`` waits a bounded time for that version.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from contracts import topics
from contracts.invocation import InvocationFailed
from contracts.partitioner import partition_of
from services.infrastructure.postgres import OUTAGES, Connection, Pool
from services.invoker import queue
from services.invoker.notifications import Asked, Note, outcome_note
from services.invoker.outbox import tell
from services.invoker.pace import Pace
from services.invoker.resolution import UNJUDGED, Lacking, Ready, Wanted, known_of, resolve_all

log = logging.getLogger(__name__)

_AT_ONCE = 500
_LOOK_EVERY_S = 0.1
_IDLE_S = 0.5
NOTHING = -1
"""The log's last offset where there is no event."""

_NEW = """
    SELECT id, channel FROM invoker.deliveries WHERE state = 'waiting' AND log_end IS NULL ORDER BY created_at LIMIT $1
"""
_WAITING = """
    SELECT * FROM invoker.deliveries WHERE state = 'waiting' AND log_end IS NOT NULL AND (created_at, id) > ($1, $2)
    ORDER BY created_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
"""
_BEFORE_ALL = datetime.fromtimestamp(0, UTC), ""
_APPLIED = "SELECT partition, next_offset FROM switchboard.checkpoints WHERE consumer = $1 AND topic = $2"
_RESOLVED = """
    UPDATE invoker.deliveries d SET state = r.state, body = r.body, reason = r.reason, due_at = now(),
        ended_at = CASE WHEN r.state = 'refused' THEN now() END
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[]) AS r(id, state, body, reason)
    WHERE d.id = r.id RETURNING d.channel, d.system, d.lane, d.state
"""


class Log(Protocol):
    """The log of events, as far as waiting requests need it."""

    async def partitions(self) -> int: ...

    async def last_events(self, applied: dict[int, int], partitions: Collection[int]) -> dict[int, int]:
        """The offset of the last event of each partition now; `NOTHING` where none lies at or after what is applied."""
        ...


class EventLog:
    """The log on Kafka; connects when it is asked first, and is to be closed."""

    def __init__(self, bootstrap_servers: str, security: dict[str, Any]) -> None:
        self._reach: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, **security}
        self._options = {"enable_auto_commit": False, **self._reach}
        self._partitions = 0
        self._ends: Any = None
        self._reader: Any = None

    async def _connected(self) -> None:
        if self._ends is None:
            # The end includes what is not committed yet: its command's outcome may be visible already.
            ends = AIOKafkaConsumer(isolation_level="read_uncommitted", **self._options)
            reader = AIOKafkaConsumer(isolation_level="read_committed", **self._options)
            try:
                await ends.start()
                await reader.start()
            except BaseException:
                await ends.stop()
                await reader.stop()
                raise
            self._ends, self._reader = ends, reader

    async def close(self) -> None:
        for consumer in (self._ends, self._reader):
            if consumer is not None:
                await consumer.stop()
        self._ends = self._reader = None

    async def partitions(self) -> int:
        if self._partitions == 0:
            admin = AIOKafkaAdminClient(**self._reach)
            await admin.start()
            try:
                [described] = await admin.describe_topics([topics.EVENTS.name])
                if not described["partitions"]:
                    raise UnknownTopicOrPartitionError
                self._partitions = len(described["partitions"])
            finally:
                await admin.close()
        return self._partitions

    async def last_events(self, applied: dict[int, int], partitions: Collection[int]) -> dict[int, int]:
        await self._connected()
        wanted = [TopicPartition(topics.EVENTS.name, partition) for partition in partitions]
        ends = await self._ends.end_offsets(wanted)
        return {
            source.partition: await self._last(source, applied.get(source.partition, 0), ends[source])
            for source in wanted
        }

    async def _last(self, source: TopicPartition, applied: int, end: int) -> int:
        """Transaction markers take offsets too, and no consumer is ever given one: the last event lies before them."""
        back = 16
        while applied < end:
            start = max(applied, end - back)
            self._reader.assign([source])
            self._reader.seek(source, start)
            last = NOTHING
            while await self._reader.position(source) < end:
                for record in (await self._reader.getmany(source, timeout_ms=200)).get(source, ()):
                    last = max(last, record.offset)
            if last != NOTHING or start == applied:
                return last
            back *= 16
        return NOTHING


class Waiting:
    """Resolves waiting deliveries until cancelled. ``resolved`` is called after each that became due or ended."""

    def __init__(self, pool: Pool, events: Log, consumer: str, pace: Pace, resolved: Callable[[], None]) -> None:
        self._pool, self._log, self._consumer, self._pace, self._resolved = pool, events, consumer, pace, resolved

    async def run(self) -> None:
        while True:
            try:
                waits = await self.look()
            except (KafkaError, *OUTAGES) as error:
                log.warning("requests for what is not known wait (%s)", type(error).__name__)
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(_LOOK_EVERY_S if waits else _IDLE_S)

    async def look(self) -> bool:
        """One look at all that waits, some at a time: who waits long holds up nobody. Returns whether anything does."""
        while new := await self._pool.fetch(_NEW, _AT_ONCE):
            await self._note_log_end(new)
        waits, seen = False, _BEFORE_ALL
        while True:
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(_WAITING, *seen, _AT_ONCE)
                if rows:
                    await self._resolve(connection, rows)
            if not rows:
                return waits
            self._resolved()
            waits, seen = True, (rows[-1]["created_at"], rows[-1]["id"])

    async def _note_log_end(self, new: Sequence[Any]) -> None:
        count = await self._log.partitions()
        homes = {row["id"]: partition_of(row["channel"], count) for row in new}
        ends = await self._log.last_events(await self._applied(self._pool), set(homes.values()))
        await self._pool.execute(
            "UPDATE invoker.deliveries d SET log_end = r.log_end "
            "FROM unnest($1::text[], $2::bigint[]) AS r(id, log_end) WHERE d.id = r.id AND d.log_end IS NULL",
            list(homes),
            [ends[home] for home in homes.values()],
        )

    async def _applied(self, connection: Connection | Pool) -> dict[int, int]:
        rows = await connection.fetch(_APPLIED, self._consumer, topics.EVENTS.name)
        return {row["partition"]: row["next_offset"] for row in rows}

    async def _resolve(self, connection: Connection, rows: Sequence[Any]) -> None:
        applied = await self._applied(connection)  # before what is known: that is at least as new
        wanted = [_wanted(row) for row in rows]
        known = await known_of(connection, wanted)
        count = await self._log.partitions()
        now = datetime.now(UTC)
        changes: list[tuple[Any, ...]] = []
        notes: list[Note] = []
        for row, one, resolution in zip(rows, wanted, await resolve_all(wanted, known), strict=True):
            if isinstance(resolution, Ready):
                changes.append((row["id"], "parked" if resolution.parked else "due", resolution.body, None))
                continue
            reached = applied.get(partition_of(row["channel"], count), 0) > row["log_end"]
            if is_final(
                one, resolution, reached=reached, waited_s=(now - row["created_at"]).total_seconds(), pace=self._pace
            ):
                changes.append((row["id"], "refused", None, resolution.reason))
                notes.append(_refusal(row, resolution))
        if changes:
            resolved = await connection.fetch(_RESOLVED, *(list(column) for column in zip(*changes, strict=True)))
            await tell(connection, notes)
            due = [row for row in resolved if row["state"] == "due"]
            await queue.wake(connection, [queue.Wake(row["channel"], row["system"], row["lane"], now) for row in due])


def is_final(wanted: Wanted, lacking: Lacking, *, reached: bool, waited_s: float, pace: Pace) -> bool:
    """Whether what is lacking will not come any more. ``reached``: all is applied that was in the log at its coming."""
    if lacking is UNJUDGED:
        return False
    if wanted.settings_version is not None:
        unmet = lacking.behind or lacking.reason == "ChannelUnknown"
        return not unmet or (reached and waited_s > pace.patience)
    return reached


def _wanted(row: Any) -> Wanted:
    request = json.loads(row["request"])
    about = row["account"], row["channel"], row["system"], row["code"], row["template"]
    return Wanted(*about, request.get("data"), request.get("settings_version"))


def _refusal(row: Any, lacking: Lacking) -> Note:
    outcome = InvocationFailed(
        system=row["system"],
        code=row["code"],
        delivery=row["id"],
        status="refused",
        reason=lacking.reason,
        message=lacking.message,
    )
    return outcome_note(Asked.of(row), outcome)
