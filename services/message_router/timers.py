"""Timers: reservations that expire, fallbacks that fire, and what is kept for seven days at most.

A router applies the timers of the partitions that it reads, and whatever is overdue of the others: none is missed while
a group rebalances, and the partition's lock lets one router apply each.

A fallback must not fire once Activate SMS is off, so a partition's timers wait until the replica of the settings has
every event that was in the log when they were looked at: a router that was down may have missed a switch.

While a partition has a backlog of requests, its timers go with the batches of these, in the same transaction: one of
their own would wait behind each batch for the partition's lock, and for each statement behind the others' work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

import structlog
from aiokafka.errors import KafkaError

from contracts.topics import EVENTS
from services.infrastructure.checkpoints import next_offsets
from services.infrastructure.event_log import EventLog
from services.infrastructure.poison_messages import AnotherProcess, isolate_poison
from services.infrastructure.postgres import OUTAGES, Connection, Pool
from services.message_router.decisions import handle_timer, refuse_status
from services.message_router.messages import report_of
from services.message_router.outbox import NotVerified, lock_partitions
from services.message_router.ownership import OVERDUE_MS, OnCommitted, Ownership
from services.message_router.poison import count_poison
from services.message_router.rate_book import CurrentRates
from services.message_router.requests import MessageKey
from services.message_router.work import Work, load_work

log = structlog.stdlib.get_logger(__name__)

KEPT_MS = 7 * 24 * 60 * 60 * 1000
"""Statuses without a decision, and numbers of fallbacks, are kept so long at most."""
_BATCH = 500
_POLL_S = 0.1
_OTHERS_POLL_S = 1.0
"""Another router may set a timer and die, and tells nobody."""
_BACKLOG = 100
_BACKLOG_S = 1.0
"""A partition has a backlog for so long after a batch of so many records."""
_SWEEP_S = 60.0
_PUT_OFF_MS = 60 * 60 * 1000
_LOG_END_TIMEOUT_S = 0.5
"""The end of a partition's log may have to wait for a transaction. Then the partitions are asked for one by one, so
that the others do not wait with it."""

_SELECT_NEXT = """
    SELECT partition, next.next_timer + CASE WHEN partition = ANY($1::int[]) THEN 0 ELSE $2::bigint END AS due_at
    FROM message_router.outbox_numbers o CROSS JOIN LATERAL (
        SELECT next_timer FROM message_router.messages m
        WHERE m.partition = o.partition AND next_timer IS NOT NULL ORDER BY next_timer LIMIT 1) AS next
"""
_SELECT_DUE = """
    SELECT channel, account, message FROM message_router.messages
    WHERE partition = $1 AND next_timer <= $2 AND $3 < coalesce((
        SELECT next_offset FROM switchboard.checkpoints WHERE consumer = $4 AND topic = $5 AND partition = $1), 0)
    ORDER BY next_timer LIMIT $6
"""
_PUT_OFF = """
    UPDATE message_router.messages SET next_timer = $4
    WHERE channel = $1 AND account = $2 AND message = $3 AND next_timer IS NOT NULL
"""
_TAKE_OLD_STATUSES = """
    DELETE FROM message_router.waiting_statuses WHERE partition = $1 AND received_at < $2 RETURNING *
"""
_OLD_STATUS_PARTITIONS = "SELECT DISTINCT partition FROM message_router.waiting_statuses WHERE received_at < $1"
_FORGET_NUMBERS = """
    UPDATE message_router.messages SET fallback_to = NULL WHERE fallback_to IS NOT NULL AND requested_at < $1
"""


class _LookedAt(NamedTuple):
    """Where the log of events ended at a moment (Unix milliseconds): timers up to it may be applied from there on.

    ``log_ends`` are of the partition, and of those that were added for its channels.
    """

    log_ends: Mapping[int, int]
    moment: int


class TimerRaised(AnotherProcess):
    """A timer that went with a batch of requests raised: none of them is to blame."""


class Timers:
    """Runs until cancelled. ``consumer`` names the checkpoints of the replica."""

    def __init__(
        self,
        pool: Pool,
        event_log: EventLog,
        consumer: str,
        ownership: Ownership,
        rates: CurrentRates,
        on_committed: OnCommitted,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._pool, self._event_log, self._consumer, self._ownership = pool, event_log, consumer, ownership
        self._rates, self._on_committed, self._on_step = rates, on_committed, on_step
        self._looked_at: dict[int, _LookedAt] = {}
        self._with_batches: dict[int, _LookedAt] = {}
        """What goes with the batches of partitions that have a backlog."""
        self._backlog_until: dict[int, float] = {}
        self._apart: set[int] = set()
        """Partitions with a timer that raised."""
        self._swept_at = 0.0
        self._wake = asyncio.Event()
        self._next_at = 0
        """When the next timer is due that is not over yet (Unix milliseconds)."""

    def notify(self) -> None:
        """There may be a new timer."""
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            try:
                more = await self.run_once(time.time_ns() // 1_000_000) == _BATCH
                if time.monotonic() - self._swept_at > _SWEEP_S:
                    await self.sweep(time.time_ns() // 1_000_000)
                    self._swept_at = time.monotonic()
            except (KafkaError, *OUTAGES) as error:
                log.warning("timers wait", reason=type(error).__name__)
                await asyncio.sleep(1)
                continue
            if not more:
                await asyncio.sleep(_POLL_S)
                await self._wait()

    async def _wait(self) -> None:
        """Until the next timer is due, or there may be an earlier one."""
        left_s = self._next_at / 1000 - time.time()
        try:
            async with asyncio.timeout(max(0.0, min(left_s, _OTHERS_POLL_S))):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def run_once(self, now: int) -> int:
        """Applies a batch of each partition's timers that are over. Returns the size of the largest."""
        owned = list(self._ownership.partitions)
        due_at = dict(await self._pool.fetch(_SELECT_NEXT, owned, OVERDUE_MS))
        due = {partition for partition, at in due_at.items() if at <= now}
        self._next_at = min(due_at.values(), default=2**62)
        if not due:
            return 0
        await self._look_at_log(due, now)
        applied = await next_offsets(self._pool, self._consumer)
        ready = {
            one
            for one in due & self._looked_at.keys()
            if all(applied.get(number, 0) > end for number, end in self._looked_at[one].log_ends.items())
        }
        for partition in [one for one in ready if self._has_backlog(one)]:
            self._with_batches[partition] = self._looked_at.pop(partition)
            ready.remove(partition)
        sizes = await asyncio.gather(*(self._apply(partition) for partition in ready), return_exceptions=True)
        for size in sizes:
            if isinstance(size, BaseException) and not isinstance(size, NotVerified):
                raise size
        return max((size for size in sizes if isinstance(size, int)), default=0)

    async def _look_at_log(self, due: set[int], now: int) -> None:
        applied = await next_offsets(self._pool, self._consumer)
        unknown = due - self._looked_at.keys()
        for several in ([unknown] if unknown else []) + [{partition} for partition in sorted(unknown)]:
            if several <= self._looked_at.keys():
                continue
            try:
                async with asyncio.timeout(_LOG_END_TIMEOUT_S):
                    families = await self._event_log.families(several)
                    ends = await self._event_log.last_offsets(applied, set(chain(*families.values())))
            except TimeoutError:
                continue
            for partition, family in families.items():
                self._looked_at[partition] = _LookedAt({one: ends[one] for one in family}, now)

    def _has_backlog(self, partition: int) -> bool:
        return partition not in self._apart and self._backlog_until.get(partition, 0) > time.monotonic()

    async def due_with_batch(self, connection: Connection, partition: int, records: int) -> list[MessageKey]:
        """The messages whose timers go with a batch of so many of the partition's records, in its transaction."""
        if records >= _BACKLOG:
            self._backlog_until[partition] = time.monotonic() + _BACKLOG_S
        looked_at = self._with_batches.pop(partition, None)
        return [] if looked_at is None else await self._due(connection, partition, looked_at)

    def apply_with_batch(self, work: Work, partition: int, due: Sequence[MessageKey]) -> None:
        """Raises `TimerRaised`; the partition's timers do not go with its batches then."""
        try:
            for key in due:
                handle_timer(work, work.messages[key])
        except Exception:  # noqa: BLE001 -- the timer is isolated later; its error's text may repeat a number
            self._apart.add(partition)
            raise TimerRaised from None
        if due:
            self._on_step("timed")

    async def _due(self, connection: Connection | Pool, partition: int, looked_at: _LookedAt) -> list[MessageKey]:
        rows = await connection.fetch(
            *(_SELECT_DUE, partition, looked_at.moment, looked_at.log_ends[partition], self._consumer),
            *(EVENTS.name, _BATCH),
        )
        return [(row["channel"], row["account"], row["message"]) for row in rows]

    async def _apply(self, partition: int) -> int:
        keys = await self._due(self._pool, partition, self._looked_at[partition])
        if len(keys) < _BATCH:
            del self._looked_at[partition]
        if keys:
            await isolate_poison(keys, partial(self._fire, partition), partial(self._put_off, partition))
        self._apart.discard(partition)
        return len(keys)

    async def _fire(self, partition: int, keys: Sequence[MessageKey]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            work = await load_work(connection, self._rates, {partition}, (), keys)
            for key in keys:
                handle_timer(work, work.messages[key])
            await work.save(connection)
            self._on_step("timed")
        self._on_committed({partition})

    async def _put_off(self, partition: int, key: MessageKey, _: Exception) -> None:
        """Tries the timer that raises again later: by then, whatever is wrong with its message may be mended."""
        async with self._pool.acquire() as connection, connection.transaction():
            await lock_partitions(connection, {partition})
            await connection.execute(_PUT_OFF, *key, time.time_ns() // 1_000_000 + _PUT_OFF_MS)
            await count_poison(connection, partition, "timer")

    async def sweep(self, now: int) -> None:
        """Refuses statuses whose message was not routed in seven days, and forgets numbers as old."""
        before = now - KEPT_MS
        await self._pool.execute(_FORGET_NUMBERS, before)
        for found in await self._pool.fetch(_OLD_STATUS_PARTITIONS, before):
            async with self._pool.acquire() as connection, connection.transaction():
                work = await load_work(connection, self._rates, {found["partition"]}, (), ())
                for row in await connection.fetch(_TAKE_OLD_STATUSES, found["partition"], before):
                    refuse_status(work, report_of(row))
                await work.save(connection)
            self._on_committed({found["partition"]})
