"""Restores a partition that lacks what was published, from the topics: before anything of it is decided again.

The topics have the decisions and what became of them; the requests, which are read again from the checkpoint, have what
was asked for. So a message that is not in the database gets a row with what was published of it, which waits for its
request and then takes that decision over (`decisions.decide`). A message that is there gets what it lacks. What is
restored already changes nothing, so an interrupted restore is begun again.

Read is what was published since the partition's checkpoint moved last: what came before is in the database. Without a
checkpoint it is what may be decided again, from the oldest request that is kept; and all charges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from contracts.kafka.partition_growth import read_partitions
from contracts.message_routing import MessageRouted
from contracts.partitioner import partition_of
from contracts.topics import Topic
from contracts.usage import MessageCharged
from services.domain.message_routing.route import utc_day
from services.infrastructure.log_reader import log_reader, read_committed
from services.infrastructure.postgres import Pool
from services.message_router.daily_messages import counts_today, replace_counts
from services.message_router.messages import load_messages, save_messages
from services.message_router.outbox import lock_unverified
from services.message_router.ownership import NAME
from services.message_router.published import Published, published_id, read_published
from services.message_router.restored_messages import restore_message
from services.message_router.scheduling_resources import count_taken
from services.message_router.timeline import IN_TIMELINE, TimelineNotice, restore_notices
from services.message_router.usage_rollup import UsageKey, fold_usage, replace_usage

log = structlog.stdlib.get_logger(__name__)

_BATCH = 500
_CLOCKS_DIFFER_MS = 10 * 60 * 1000
"""The moments come from the clocks of the database, the broker and the routers."""
_NEVER = 2**62

_CHECKPOINT = """
    SELECT (extract(epoch FROM moved_at) * 1000)::bigint FROM switchboard.checkpoints
    WHERE consumer = $1 AND topic = $2 AND partition = $3
"""
_ADD_PUBLISHED = """
    INSERT INTO message_router.published (partition, id, published_at)
    SELECT $1, unnest($2::text[]), unnest($3::bigint[]) ON CONFLICT DO NOTHING
"""
_OUTBOX = "SELECT topic, value FROM message_router.outbox WHERE partition = $1 AND topic = ANY($2::text[])"


class _Since(NamedTuple):
    """Unix milliseconds. ``day`` is the first that is read as a whole."""

    decisions: int
    charges: int
    requests: int
    day: date


class _Totals:
    """What the decisions and charges of the days since then add up to; each counts once, by its id."""

    def __init__(self, since: date) -> None:
        self._since = since
        self._ids: set[str] = set()
        self.usage: dict[UsageKey, tuple[int, Decimal]] = {}
        self.daily: Counter[tuple[str, str, date]] = Counter()

    def add(self, told: Published) -> None:
        if told.id in self._ids:
            return
        subject, data = told.subject, told.data
        if isinstance(data, MessageCharged) and date.fromisoformat(data.booked_on) >= self._since:
            self._ids.add(told.id)
            for key, (messages, amount) in fold_usage([(subject.account, subject.channel, data)]).items():
                before = self.usage.get(key, (0, Decimal(0)))
                self.usage[key] = before[0] + messages, before[1] + amount
        elif isinstance(data, MessageRouted) and counts_today(data) and utc_day(told.at) >= self._since:
            self._ids.add(told.id)
            self.daily[subject.channel, data.country or "", utc_day(told.at)] += 1


async def restore(
    pool: Pool, bootstrap_servers: str, security: dict[str, Any], partition: int, partitions: int
) -> None:
    """Nobody else may publish for the partition, or work on its messages: it is not verified.

    ``partitions`` is how many there are.
    """
    grown = await read_partitions(bootstrap_servers=bootstrap_servers, **security)
    homes = grown.count(partitions)
    async with log_reader(bootstrap_servers, security) as reader:
        since = await _since(pool, reader, partition, partitions)
        totals = _Totals(since.day)
        for topic, begin in ((topics.MESSAGE_DECISIONS, since.decisions), (topics.USAGE, since.charges)):
            # A channel's records from before the number of partitions grew are where it lived then.
            for source in [*(one.partition for one in reversed(grown.ancestors(topic.name, partition))), partition]:
                async for records in _read(reader, topic, source, begin):
                    own = [one for one in records if _is_at_home(one, partition, homes)]
                    await _restore_messages(pool, partition, own, since.requests, totals)
        async for records in _read(reader, topics.DEAD_LETTERS, partition, since.decisions):
            await _remember_published(pool, partition, records)
    await _restore_totals(pool, partition, homes, since.day, totals)
    log.warning("what the database lacked is restored from the topics", partition=partition)


def _is_at_home(record: Any, partition: int, homes: int) -> bool:
    return partition_of((record.key or b"").decode(errors="replace"), homes) == partition


async def _since(pool: Pool, reader: AIOKafkaConsumer, partition: int, partitions: int) -> _Since:
    moved_at = await pool.fetchval(_CHECKPOINT, NAME, topics.MESSAGE_REQUESTS.name, partition)
    requests = _NEVER
    for number in range(partitions):
        async for records in read_committed(reader, topics.MESSAGE_REQUESTS.name, number, at_once=1):
            requests = min(requests, records[0].timestamp - _CLOCKS_DIFFER_MS)
            break
    if moved_at is None:
        return _Since(requests, 0, requests, date.min)
    day = utc_day(moved_at - _CLOCKS_DIFFER_MS)
    begin = int(datetime.combine(day, time(), UTC).timestamp() * 1000) - _CLOCKS_DIFFER_MS
    return _Since(begin, begin, requests, day)


async def _read(reader: AIOKafkaConsumer, topic: Topic, partition: int, since: int) -> AsyncIterator[Sequence[Any]]:
    """The partition's records since that moment."""
    if since == _NEVER:
        return
    tp = TopicPartition(topic.name, partition)
    found = (await reader.offsets_for_times({tp: max(0, since)}))[tp]
    if found is not None:
        async for records in read_committed(reader, topic.name, partition, found.offset, _BATCH):
            yield records


async def _restore_messages(
    pool: Pool, partition: int, records: Sequence[Any], requests_since: int, totals: _Totals
) -> None:
    await _remember_published(pool, partition, records)
    told = [one for record in records if (one := read_published(partition, record.value)) is not None]
    async with pool.acquire() as connection, connection.transaction():
        await lock_unverified(connection, partition)
        keys = {(one.subject.channel, one.subject.account, one.subject.message) for one in told}
        messages, _ = await load_messages(connection, keys)
        for one in told:
            totals.add(one)
            restore_message(messages, one, requests_since)
        await save_messages(connection, messages.values())
        shown = [one for one in told if isinstance(one.data, IN_TIMELINE)]
        notices = [TimelineNotice(one.subject, one.data) for one in shown]
        await restore_notices(connection, notices, [one.at for one in shown])


async def _remember_published(pool: Pool, partition: int, records: Sequence[Any]) -> None:
    """What has these ids is not published again."""
    found: dict[str, int] = {}
    for record in records:
        headers = {name: value.decode(errors="replace") for name, value in record.headers}
        if (record_id := published_id(record.topic, record.value, headers)) is not None:
            found[record_id] = record.timestamp
    await pool.execute(_ADD_PUBLISHED, partition, list(found), list(found.values()))


async def _restore_totals(pool: Pool, partition: int, homes: int, day: date, totals: _Totals) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await lock_unverified(connection, partition)
        # What was decided and is still to be published counts too.
        names = [topics.MESSAGE_DECISIONS.name, topics.USAGE.name]
        for row in await connection.fetch(_OUTBOX, partition, names):
            if (told := read_published(partition, row["value"])) is not None:
                totals.add(told)
        await replace_usage(connection, totals.usage, day, lambda channel: partition_of(channel, homes) == partition)
        await replace_counts(connection, totals.daily)
        await count_taken(connection)
