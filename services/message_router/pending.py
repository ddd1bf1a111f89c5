"""Requests that wait for their settings: decided once these are known, refused once it is sure that they are not."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from contracts.message_routing import RoutingRefusal, RoutingRefused
from contracts.topics import EVENTS
from services.infrastructure.checkpoints import next_offsets
from services.infrastructure.event_log import NO_EVENT, EventLog, LogEnd, log_ends
from services.infrastructure.poison_messages import isolate_poison
from services.infrastructure.postgres import OUTAGES, Connection, Pool
from services.message_router.decisions import decide, refuse
from services.message_router.messages import MessageRow
from services.message_router.notices import INTERNAL_ERROR, Subject, notice
from services.message_router.outbox import NotVerified, add_to_outbox, lock_partitions
from services.message_router.ownership import OVERDUE_MS, OnCommitted, Ownership
from services.message_router.poison import count_poison
from services.message_router.rate_book import CurrentRates
from services.message_router.requests import MessageKey
from services.message_router.settings_replica import RoutedChannel
from services.message_router.work import is_decidable, load_work

log = structlog.stdlib.get_logger(__name__)

SETTINGS_VERSION_WAIT_MS = 10_000
_BATCH = 500
_POLL_S = 0.1
_OTHERS_POLL_S = 1.0
"""Another router may have stored a request and died, and tells nobody."""

# What is restored from the topics waits for its request (its digest) before it waits for its settings.
_ANY_WAITING = "SELECT EXISTS (SELECT FROM message_router.messages WHERE state = 'waiting' AND digest <> '')"
_SELECT_NEW = """
    SELECT channel, account, message, partition FROM message_router.messages
    WHERE state = 'waiting' AND digest <> '' AND log_end IS NULL AND (partition = ANY($1::int[]) OR requested_at < $2)
    LIMIT 5000
"""
_SET_LOG_END = """
    UPDATE message_router.messages m SET log_end = n.log_end
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS n(channel, account, message, log_end)
    WHERE (m.channel, m.account, m.message) = (n.channel, n.account, n.message) AND state = 'waiting'
"""
# What can be decided by the settings that are known, and what waited long enough for those that are not.
_SELECT_RIPE = """
    SELECT m.channel, m.account, m.message, m.partition, m.log_end FROM message_router.messages m
    LEFT JOIN message_router.channels c ON c.channel = m.channel AND c.account = m.account
    LEFT JOIN switchboard.checkpoints p ON p.consumer = $4 AND p.topic = $5 AND p.partition = m.partition
    WHERE m.state = 'waiting' AND digest <> '' AND (m.partition = ANY($1::int[]) OR m.requested_at < $2) AND (
        c.retired OR m.asked_version <= c.version OR (c.channel IS NOT NULL AND m.asked_version IS NULL)
        OR (m.log_end < coalesce(p.next_offset, 0) AND (m.asked_version IS NULL OR m.requested_at < $3)))
    ORDER BY m.requested_at LIMIT $6
"""
_FORGET = """
    DELETE FROM message_router.messages
    WHERE channel = $1 AND account = $2 AND message = $3 AND state = 'waiting' RETURNING correlation_id
"""


class PendingRequests:
    """Looks at the waiting requests again until cancelled. ``consumer`` names the checkpoints of the replica."""

    def __init__(
        self,
        pool: Pool,
        event_log: EventLog,
        consumer: str,
        ownership: Ownership,
        rates: CurrentRates,
        on_committed: OnCommitted,
        wait_ms: int = SETTINGS_VERSION_WAIT_MS,
    ) -> None:
        self._pool, self._event_log, self._consumer, self._ownership = pool, event_log, consumer, ownership
        self._rates, self._on_committed, self._wait_ms = rates, on_committed, wait_ms
        self._wake = asyncio.Event()
        self._elsewhere: dict[MessageKey, LogEnd] = {}
        """What must be applied first, where the channel's events are on an added partition."""

    def notify(self) -> None:
        """There may be a new request that waits."""
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            try:
                any_waits = await self._pool.fetchval(_ANY_WAITING)
                more = any_waits and await self.run_once() == _BATCH
            except (KafkaError, *OUTAGES) as error:
                log.warning("pending requests wait", reason=type(error).__name__)
                await asyncio.sleep(1)
                continue
            if not more:
                await asyncio.sleep(_POLL_S)
            if not any_waits:
                await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_OTHERS_POLL_S):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def run_once(self) -> int:
        """Decides and refuses a batch of the requests that need wait no longer. Returns how many were looked at."""
        owned, now = list(self._ownership.partitions), time.time_ns() // 1_000_000
        await self._set_log_ends(owned, now)
        rows = await self._pool.fetch(
            *(_SELECT_RIPE, owned, now - OVERDUE_MS, now - self._wait_ms, self._consumer, EVENTS.name, _BATCH)
        )
        by_partition: dict[int, list[Any]] = defaultdict(list)
        for row in rows:
            by_partition[row["partition"]].append(row)
        for partition, waiting in by_partition.items():
            with suppress(NotVerified):  # the other partitions need not wait for it
                await isolate_poison(
                    waiting, partial(self._resolve, partition), partial(self._refuse_poison, partition)
                )
        return len(rows)

    async def _set_log_ends(self, owned: list[int], now: int) -> None:
        """Notes where the log of events ended after the request came: so far must the replica have read."""
        rows = await self._pool.fetch(_SELECT_NEW, owned, now - OVERDUE_MS)
        if rows:
            applied = await next_offsets(self._pool, self._consumer)
            ends = await self._ends(rows, applied)
            # An added partition is not the message's own: its end is kept here until it is applied.
            known = {row: end.offset for row, end in ends.items() if end.partition == row["partition"]}
            elsewhere = {row: end for row, end in ends.items() if row not in known}
            known |= {row: NO_EVENT for row, end in elsewhere.items() if applied.get(end.partition, 0) > end.offset}
            self._elsewhere = {_key(row): end for row, end in elsewhere.items() if row not in known}
            keys = [[row[name] for row in known] for name in ("channel", "account", "message")]
            await self._pool.execute(_SET_LOG_END, *keys, list(known.values()))

    async def _ends(self, rows: Sequence[Any], applied: Mapping[int, int]) -> dict[Any, LogEnd]:
        new = {row["channel"] for row in rows if _key(row) not in self._elsewhere}
        ends = await log_ends(self._event_log, applied, new) if new else {}
        return {row: self._elsewhere.get(_key(row)) or ends[row["channel"]] for row in rows}

    async def _resolve(self, partition: int, waiting: Sequence[Any]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await self._resolve_within(connection, partition, waiting)
        self._on_committed({partition})

    async def _refuse_poison(self, partition: int, waiting: Any, _: Exception) -> None:
        """Refuses a request whose handling raises, and forgets it: the same may be sent again."""
        channel, account, message = waiting["channel"], waiting["account"], waiting["message"]
        now = time.time_ns() // 1_000_000
        async with self._pool.acquire() as connection, connection.transaction():
            numbers = await lock_partitions(connection, {partition})
            correlation = await connection.fetchval(_FORGET, channel, account, message)
            if correlation is None:
                return
            subject = Subject(partition, channel, account, message, message, correlation)
            refused = RoutingRefused(message=message, reason="InternalError", sentence=INTERNAL_ERROR)
            await add_to_outbox(connection, numbers, [notice(subject, refused, now, str(now))])
            await count_poison(connection, partition, "waiting_request")
        self._on_committed({partition})

    async def _resolve_within(self, connection: Connection, partition: int, waiting: Sequence[Any]) -> None:
        applied = (await next_offsets(connection, self._consumer)).get(partition, 0)
        now = time.time_ns() // 1_000_000
        caught_up: dict[MessageKey, bool] = {}
        for row in waiting:
            end = row["log_end"]
            caught_up[row["channel"], row["account"], row["message"]] = end is not None and applied > end
        # The replica is read after the checkpoint, so that it is at least as new.
        work = await load_work(
            connection, self._rates, {partition}, (), caught_up, [key for key in caught_up if caught_up[key]]
        )
        for key, is_caught_up in caught_up.items():
            row = work.messages[key]
            if row.state != "waiting":
                continue
            if is_decidable(row, work.channels):
                decide(work, row)
            elif is_caught_up and (reason := self._missing(row, work.channels, now)) is not None:
                refuse(work, row, *reason)
        await work.save(connection)

    def _missing(
        self, row: MessageRow, channels: Mapping[str, RoutedChannel], now: int
    ) -> tuple[RoutingRefusal, str] | None:
        """Why a request is refused whose settings are not known though all events are applied; None to wait on."""
        if row.asked_version is not None and now - row.requested_at <= self._wait_ms:
            return None
        channel = channels.get(row.subject.channel)
        if channel is None or channel.account != row.subject.account:
            name = row.subject.channel
            return (
                "ChannelUnknown",
                f"The account has no channel {name!r}; the platform registers it with RegisterChannel.",
            )
        sentence = (
            f"Version {row.asked_version} of the settings did not come within {self._wait_ms / 1000:g} s; the newest "
            f"is {channel.settings.version}."
        )
        return "SettingsNotKnown", sentence


def _key(row: Any) -> MessageKey:
    return row["channel"], row["account"], row["message"]
