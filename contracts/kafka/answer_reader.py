"""Reads a topic of answers from its end on, and resolves the futures of those who wait for one.

An answer is on the partition of its channel, and has the request's id in the header ``causationid``. Partitions that
are added meanwhile are read from their beginning.
"""

from __future__ import annotations

import asyncio
from typing import Any, Generic, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ..partition_growth import Partitions
from ..topics import Topic
from .client_shutdown import close_client
from .errors import PublisherError
from .log import log
from .partition_growth import partitions_by

_METADATA_MAX_AGE_MS = 5_000
"""So long until new partitions are noticed: whose command they answer is waiting."""


class Pending(Protocol):
    """Who waits for an answer. ``key`` is the channel and the request's id."""

    @property
    def key(self) -> tuple[bytes, bytes]: ...

    @property
    def answer(self) -> asyncio.Future[Any]: ...


Waiting = TypeVar("Waiting", bound=Pending)


class AnswerReader(Generic[Waiting]):
    """Reads every partition from its end at the time of `follow`."""

    def __init__(self, requests: Topic, answers: Topic, options: dict[str, Any]) -> None:
        self.requests, self.answers = requests, answers
        self._consumer: Any = AIOKafkaConsumer(
            isolation_level="read_committed",
            auto_offset_reset="latest",
            enable_auto_commit=False,
            metadata_max_age_ms=_METADATA_MAX_AGE_MS,
            **options,
        )
        self._reading: asyncio.Task[None] | None = None
        self._pending: dict[tuple[bytes, bytes], list[Waiting]] = {}
        self._ended: str | None = None

    def resolve(self, record: Any, candidates: list[Waiting]) -> None:
        """Resolves those of the candidates, who all wait for an answer to this id, that the record answers."""
        raise NotImplementedError

    async def start(self) -> None:
        """Raises KafkaError, and `PublisherError` where a topic is missing."""
        await self._consumer.start()
        existing = await self._consumer.topics()
        for topic in (self.requests.name, self.answers.name):
            if topic not in existing:
                raise PublisherError(f"The broker has no topic {topic}; `switchboard topics apply` makes it.")

    async def growth(self) -> Partitions:
        """How the number of partitions grew. To be called before `follow`."""
        return await partitions_by(self._consumer)

    async def follow(self, partitions: int) -> None:
        """Starts to read that many partitions from their ends, so that no later answer is missed."""
        everything = [TopicPartition(self.answers.name, partition) for partition in range(partitions)]
        self._consumer.assign(everything)
        for partition, end in (await self._consumer.end_offsets(everything)).items():
            self._consumer.seek(partition, end)
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(self._reading_ended)

    def _reading_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._fail_all(f"The answers cannot be read any more: {task.exception()!r}.")

    async def close(self) -> None:
        """Fails the pending futures and closes the client."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._fail_all("The client was closed before the answer came; send again with the same id to get it.")
        await close_client(self._consumer)

    def _fail_all(self, why: str) -> None:
        self._ended = why
        for pending in [one for candidates in self._pending.values() for one in candidates]:
            if not pending.answer.done():
                pending.answer.set_exception(PublisherError(why))

    def register(self, pending: Waiting) -> None:
        """To be called before the request is published, so that its answer is not missed. Raises `PublisherError`."""
        if self._ended is not None:
            raise PublisherError(self._ended)
        self._pending.setdefault(pending.key, []).append(pending)

    def unregister(self, pending: Waiting) -> None:
        candidates = self._pending[pending.key]
        candidates.remove(pending)
        if not candidates:
            del self._pending[pending.key]
        if pending.answer.done() and not pending.answer.cancelled():
            pending.answer.exception()  # marks it as retrieved: nobody waits for it any more

    async def _read(self) -> None:
        while True:
            try:
                await self._follow_new_partitions()
                fetched = await self._consumer.getmany(timeout_ms=1_000)
            except KafkaError as error:
                log.warning("answers cannot be read: %s", type(error).__name__)
                await asyncio.sleep(1)
                continue
            for records in fetched.values():
                for record in records:
                    self._match(record)

    async def _follow_new_partitions(self) -> None:
        known = self._consumer.assignment()
        existing = self._consumer.partitions_for_topic(self.answers.name) or ()
        if not (new := {TopicPartition(self.answers.name, one) for one in existing} - known):
            return
        positions = {one: await self._consumer.position(one) for one in known}
        self._consumer.assign([*known, *new])
        for partition in known | new:
            self._consumer.seek(partition, positions.get(partition, 0))

    def _match(self, record: Any) -> None:
        candidates = self._pending.get((record.key, dict(record.headers).get("causationid", b"")))
        if candidates:
            self.resolve(record, candidates)
