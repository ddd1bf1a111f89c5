"""Following what becomes of messages: decisions, SMS that are due, charges.

    async with Notices("127.0.0.1:9092", group="sms-sender") as notices:
        async for notice in notices:
            match notice.body:
                case SmsFallbackDue(): ...

Notices come in order per channel and topic. Processes of one group share the partitions. A notice counts as processed
when the next one is requested; an unprocessed one is delivered again: dedupe by ``notice.envelope.id``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from .. import topics
from ..envelope import NotificationEnvelope
from ..message import EventData
from .client_shutdown import close_client
from .errors import NotOpen, SubscriberError
from .log import log
from .subscriber_failure import subscriber_failure

_COMMIT_EVERY_S = 1.0
_POLL_MS = 500
_GROUP_METADATA_MAX_AGE_MS = 5_000
"""After a broker restart aiokafka's assignor can leave a group without partitions until its metadata refreshes."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice as its topic has it. ``body`` is None where its type is newer than this program."""

    envelope: NotificationEnvelope
    body: EventData | None
    topic: str
    partition: int
    offset: int


class Notices:
    """An async context manager, and an async iterator of `Notice`. A new group begins with the oldest notices.

    ``security`` are aiokafka's keyword arguments. Entering raises `SubscriberError`.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        group: str,
        topics: Iterable[topics.Topic] = (topics.MESSAGE_DECISIONS, topics.USAGE),
        account: str | None = None,
        **security: Any,
    ) -> None:
        if not group:
            raise ValueError("a group needs a name")
        self._topics, self._account = [topic.name for topic in topics], account
        self._options: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, "group_id": group, **security}
        self._consumer: Any = None
        self._processed: _Processed
        self._yielded: Any = None

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=topics.FETCH_BYTES_PER_PARTITION,
            metadata_max_age_ms=_GROUP_METADATA_MAX_AGE_MS,
            **self._options,
        )
        self._processed = _Processed(self._consumer)
        opening = asyncio.ensure_future(self._open())
        try:
            await asyncio.shield(opening)
        except BaseException:
            # An aiokafka client that is cancelled while it starts leaves its connections behind.
            await asyncio.gather(opening, return_exceptions=True)
            await close_client(self._consumer)
            raise
        return self

    async def _open(self) -> None:
        try:
            self._consumer.subscribe(self._topics, listener=self._processed)
            await self._consumer.start()
            missing = sorted(set(self._topics) - await self._consumer.topics())
        except (KafkaError, OSError) as error:
            raise subscriber_failure(error, self._options["bootstrap_servers"]) from error
        if missing:
            raise SubscriberError(f"The broker has no topic {missing[0]}; `switchboard topics apply` makes it.")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._processed.commit()
        consumer, self._consumer = self._consumer, None
        await close_client(consumer)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notice:
        if self._consumer is None:
            raise NotOpen("Notices")
        if self._yielded is not None:
            self._processed.add(self._yielded)
            self._yielded = None
        while True:
            await self._processed.commit_now_and_then()
            record = await self._next_record()
            notice = None if record is None else self._notice(record)
            if notice is not None:
                self._yielded = record
                return notice
            if record is not None:
                self._processed.add(record)

    async def _next_record(self) -> Any:
        """One at a time: what was fetched of a partition that another member has now is not returned."""
        try:
            fetched = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=1)
        except KafkaError as error:
            log.warning("notices cannot be read: %s", type(error).__name__)
            await asyncio.sleep(_COMMIT_EVERY_S)
            return None
        return next((record for [record] in fetched.values()), None)

    def _notice(self, record: Any) -> Notice | None:
        """The record as a notice; None where it is another account's, or cannot be read."""
        try:
            envelope = NotificationEnvelope.model_validate_json(record.value or b"")
            if self._account not in (None, envelope.accountid):
                return None
            return Notice(envelope, envelope.body(), record.topic, record.partition, record.offset)
        except ValidationError:
            log.error("the notice at %s/%d/%d cannot be read", record.topic, record.partition, record.offset)
            return None


class _Processed(ConsumerRebalanceListener):  # type: ignore[misc]
    """The positions to commit, and commits before partitions go to another member."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._positions: dict[TopicPartition, int] = {}
        self._committed_at = time.monotonic()

    def add(self, record: Any) -> None:
        self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1

    async def commit_now_and_then(self) -> None:
        if time.monotonic() - self._committed_at > _COMMIT_EVERY_S:
            await self.commit()

    async def commit(self) -> None:
        """After a failure the next commit includes the positions."""
        self._committed_at = time.monotonic()
        assigned = self._consumer.assignment()
        self._positions = {tp: offset for tp, offset in self._positions.items() if tp in assigned}
        if not self._positions:
            return
        try:
            await self._consumer.commit(self._positions)
        except KafkaError as error:
            log.info("positions not committed: %s", type(error).__name__)
        else:
            self._positions.clear()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        del revoked  # `commit` takes all that are still assigned
        await self.commit()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        del assigned  # aiokafka seeks to what the group committed
