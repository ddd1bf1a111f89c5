"""Writes a backup to a broker that holds nothing yet, each record at the offset that it had.

Because offsets stay, so does all that is made of them: the decider's checkpoints and its memory of commands, the
checkpoints in the database, cursors, and the positions in audits. A producer cannot choose offsets. So what the log has
no record at, because a transaction's marker or an aborted or compacted record was there, is filled with what no reader
sees: aborted records, and the marker that ends them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from contracts import topics
from contracts.message import unix_milliseconds
from contracts.topics import TOPICS, Topic
from services.audit.log.backup import Backup
from services.audit.log.copied_log import copied_line
from services.audit.log.errors import AuditError
from services.audit.log.kafka_log import KafkaLog
from services.audit.log.source import Log, LogRecord, OffsetRange, Progress, no_progress
from services.infrastructure.topics import apply_topics
from services.infrastructure.transactions import OutgoingRecord, TransactionalProducer
from services.infrastructure.unfinished_restore import delete_topics, is_unfinished, mark, unmark

_AT_ONCE = 8
"""So many partitions are written at the same time: each waits for the broker at every hole between records."""
_LARGEST_BATCH_BYTES = topics.LARGEST_RATE_BOOK_BYTES + 64 * 1024
_USUAL_BATCH_BYTES = 256 * 1024
_PADDING_PER_TRANSACTION = 50_000
_PADDING_KEY = b"~padding"
_NAMES = tuple(topic.name for topic in TOPICS)


async def restore(
    backup: Backup,
    bootstrap_servers: str,
    security: dict[str, Any],
    progress: Progress = no_progress,
    on_step: Callable[[str], None] = lambda _: None,
) -> None:
    """Makes the topics, fills them, reads everything back and compares. No service may run meanwhile.

    It is marked as unfinished all the while, and no service starts. Killed at any point, it begins anew when it is
    called again: the topics that the mark says are its own are deleted.

    Raises `AuditError` where a topic has records already, or something else writes to the broker; and KafkaError.
    ``on_step`` is called with the name of each completed step, for the fault suite: ``deleted`` where it begins anew,
    ``marked``, ``created``, ``filled`` once per partition, ``compared``, ``finished``.
    """
    if await is_unfinished(bootstrap_servers, security):
        await _end_transactions(bootstrap_servers, security)
        await delete_topics(bootstrap_servers, security, _NAMES)
        on_step("deleted")
    else:
        await _require_empty(bootstrap_servers, security)
        await mark(bootstrap_servers, security)
        on_step("marked")
    made_at = unix_milliseconds(backup.manifest.made_at)
    counts = {name: len(offsets) for name, offsets in backup.manifest.offsets.items()}
    at_first = min(counts.values())  # as many as the topics that never grow
    created = [_with_given_times(topic) for topic in TOPICS]
    await apply_topics(bootstrap_servers, at_first, security, topics=created, counts=counts)
    on_step("created")
    await _fill(backup, bootstrap_servers, security, progress, on_step, made_at)
    on_step("compared")
    await apply_topics(bootstrap_servers, at_first, security)
    await unmark(bootstrap_servers, security)
    on_step("finished")


def _with_given_times(topic: Topic) -> Topic:
    """The topic while it is filled: the records keep their times, where the broker would set its own."""
    return replace(topic, settings=topic.settings | {"message.timestamp.type": "CreateTime"})


async def _require_empty(bootstrap_servers: str, security: dict[str, Any]) -> None:
    async with KafkaLog(bootstrap_servers, security) as log:
        for source, offsets in (await log.offset_ranges(*log.existing(topic.name for topic in TOPICS))).items():
            if offsets.end:
                raise AuditError(
                    f"{source.topic} has records already; a backup is restored to a broker without Switchboard's "
                    "topics. Delete them first."
                )


async def _end_transactions(bootstrap_servers: str, security: dict[str, Any]) -> None:
    """Of the restore that was interrupted: the markers that end them would get offsets in the topics that are made
    anew, which have the same names."""
    for number in range(_AT_ONCE):
        padding = _padding(bootstrap_servers, security, number)
        try:
            await padding.start()
        finally:
            await padding.discard()


def _padding(bootstrap_servers: str, security: dict[str, Any], number: int) -> TransactionalProducer:
    return TransactionalProducer(bootstrap_servers, f"switchboard.restore-{number}", security)


async def _fill(
    backup: Backup,
    bootstrap_servers: str,
    security: dict[str, Any],
    progress: Progress,
    on_step: Callable[[str], None],
    made_at: int,
) -> None:
    log, ranges = backup.log, backup.manifest.ranges()
    await _until_led(bootstrap_servers, security, set(ranges))
    waiting = list(ranges.items())
    async with AsyncExitStack() as stack:
        writer = _Writer(bootstrap_servers, security)
        await stack.enter_async_context(writer)

        async def work(number: int) -> None:
            async with AsyncExitStack() as own:
                padding = _padding(bootstrap_servers, security, number)
                own.push_async_callback(padding.discard)
                await padding.start()
                written = await own.enter_async_context(KafkaLog(bootstrap_servers, security))
                while waiting:
                    source, offsets = waiting.pop()
                    partition = _Partition(source, writer.producer, padding, written, made_at)
                    async for batch in log.read(source, offsets):
                        await partition.write(batch, progress)
                    await partition.pad_to(offsets.end)
                    on_step("filled")
                    await writer.delete_before(source, offsets)
                    await _compare(log, written, source, offsets)

        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(min(_AT_ONCE, len(waiting))):
                    tasks.create_task(work(number))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None


async def _until_led(bootstrap_servers: str, security: dict[str, Any], partitions: set[TopicPartition]) -> None:
    """Waits for the leaders of new topics: a marker that comes before its partition has one can be lost."""
    names = {source.topic for source in partitions}
    while True:
        async with KafkaLog(bootstrap_servers, security) as log:
            if partitions <= (await log.offset_ranges(*log.existing(names))).keys():
                return
        await asyncio.sleep(0.1)


class _Writer:
    """The clients that all partitions share."""

    def __init__(self, bootstrap_servers: str, security: dict[str, Any]) -> None:
        self.producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
            enable_idempotence=True,
            max_batch_size=_LARGEST_BATCH_BYTES,
            **security,
        )
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **security)

    async def __aenter__(self) -> None:
        await self.producer.start()
        await self._admin.start()

    async def __aexit__(self, *_: object) -> None:
        await self.producer.stop()
        await self._admin.close()

    async def delete_before(self, source: TopicPartition, offsets: OffsetRange) -> None:
        """What the log no longer had is not read as a hole."""
        if offsets.first:
            await self._admin.delete_records({source: RecordsToDelete(offsets.first)})


class _Partition:
    """Writes one partition of a topic, from offset 0 on."""

    def __init__(
        self, source: TopicPartition, producer: Any, padding: TransactionalProducer, log: KafkaLog, time: int
    ) -> None:
        self._source, self._producer, self._padding, self._log = source, producer, padding, log
        self._time = time
        """What padding has for a time: that of the record after it, so that retention takes both together."""
        self._end = 0
        """The partition's end on the broker."""
        self._batch: Any = None
        self._batched = 0

    async def write(self, records: Sequence[LogRecord], progress: Progress) -> None:
        before = self._end
        for record in records:
            self._time = record.timestamp
            if record.offset != self._end + self._batched:
                await self.pad_to(record.offset)
            # A large record goes alone: a topic takes a batch that is little larger than its largest record.
            if (self._batched and self._batch.size() + _size(record) > _USUAL_BATCH_BYTES) or not self._append(record):
                await self._flush()
                if not self._append(record):
                    raise AuditError(f"The record at {_location(self._source, record.offset)} is too large to restore.")
        await self._flush()
        progress(self._end - before)

    def _append(self, record: LogRecord) -> bool:
        if self._batch is None:
            self._batch = self._producer.create_batch()
        appended = self._batch.append(
            timestamp=record.timestamp, key=record.key, value=record.value, headers=list(record.headers)
        )
        self._batched += appended is not None
        return appended is not None

    async def _flush(self) -> None:
        if self._batched:
            sent = await self._producer.send_batch(self._batch, self._source.topic, partition=self._source.partition)
            self._require_place((await sent).offset)
            self._end += self._batched
        self._batch, self._batched = None, 0

    async def pad_to(self, offset: int) -> None:
        """Aborted records and their markers up to the offset; a hole of one offset is a marker alone."""
        await self._flush()
        while self._end < offset:
            records = min(offset - self._end, _PADDING_PER_TRANSACTION) - 1
            padding = OutgoingRecord(self._source.topic, self._source.partition, _PADDING_KEY, b"")
            await self._padding.begin()
            if records:
                first = await self._padding.append([padding] * records, self._time)
                self._require_place(first[self._source])
            else:
                self._padding.touch(self._source)
            await self._padding.abort()
            self._end += records + 1
            await self._log.reaches(self._source, self._end)

    def _require_place(self, offset: int) -> None:
        if offset != self._end:
            raise AuditError(
                f"Something else writes to {_location(self._source, offset)}: stop every service, and restore again."
            )


async def _compare(log: Log, written: KafkaLog, source: TopicPartition, offsets: OffsetRange) -> None:
    """Reads back what was written; retention and compaction may have been at it already."""
    found = (await written.offset_ranges(source.topic))[source]
    rest = OffsetRange(max(offsets.first, found.first), offsets.end)
    digest = _last_values if source.topic in _COMPACTED else _all_records
    if found.end != offsets.end or await digest(log, source, rest) != await digest(written, source, rest):
        raise AuditError(f"{source.topic}/{source.partition} was restored, but does not read back as it was written.")


async def _all_records(log: Log, source: TopicPartition, offsets: OffsetRange) -> str:
    digest = hashlib.sha256()
    async for batch in log.read(source, offsets):
        for record in batch:
            digest.update(copied_line(record).encode(errors="surrogatepass"))
    return digest.hexdigest()


async def _last_values(log: Log, source: TopicPartition, offsets: OffsetRange) -> dict[bytes | None, bytes]:
    """The digest of the last record of each key, tombstones aside."""
    last: dict[bytes | None, bytes] = {}
    async for batch in log.read(source, offsets):
        for record in batch:
            last.pop(record.key, None)
            if record.value is not None:
                last[record.key] = hashlib.sha256(copied_line(record).encode(errors="surrogatepass")).digest()
    return last


_COMPACTED = frozenset(topic.name for topic in topics.COMPACTED)


def _size(record: LogRecord) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def _location(source: TopicPartition, offset: int) -> str:
    return f"{source.topic}/{source.partition}/{offset}"
