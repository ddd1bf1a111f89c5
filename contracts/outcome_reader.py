"""Follows the outcomes as they come, and hands each to whoever waits for it.

An outcome lies on the partition number that its channel has, with the command's id in a header. One id can be in use
for several commands at once (by another account, or by mistake for other data): the header ``digest`` tells whose
answer it is.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from . import topics
from .envelope import Invalid, Unreadable, content_digest, read_command
from .letting_go import let_go
from .outcome import CommandAccepted, CommandRejected, OutcomeEnvelope
from .sealing import SealKey

log = logging.getLogger(__name__)


class PublisherBroken(Exception):
    """The broker cannot be reached or refuses the command, or the publisher is closed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to a command. ``repeated``: the id had been answered before, in the same words.

    ``secret`` is what was sealed for the publisher's own key, opened; it is shown nowhere by itself.
    """

    command_id: str
    body: CommandAccepted | CommandRejected
    repeated: bool
    secret: str | None = field(default=None, repr=False)

    @property
    def accepted(self) -> bool:
        return isinstance(self.body, CommandAccepted)

    @property
    def version(self) -> int | None:
        return self.body.version


class Waiting:
    """One wait for an outcome: ``outcome`` is done once it is there. ``value`` is the command as it is published."""

    def __init__(self, account: str, channel: str, command_id: str, value: bytes) -> None:
        self.account = account
        self.key = (channel.encode(), command_id.encode())
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._value = value

    @cached_property
    def digest(self) -> bytes:
        """Of the command as the decider reads it; empty where it will be invalid."""
        try:
            command = read_command(self._value)
        except (Invalid, Unreadable):
            return b""
        return content_digest(command.type, command.data, dry_run=bool(command.dryrun))


class OutcomeReader:
    """Reads every partition from where it ends when `start` returns."""

    def __init__(self, seal_key: SealKey | None, options: dict[str, Any]) -> None:
        self.seal_key = seal_key
        self._consumer: Any = AIOKafkaConsumer(
            isolation_level="read_committed", auto_offset_reset="latest", enable_auto_commit=False, **options
        )
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[tuple[bytes, bytes], list[Waiting]] = {}
        self._ended: str | None = None

    async def start(self) -> None:
        """Raises KafkaError, and `PublisherBroken` where the topics are not there."""
        await self._consumer.start()
        there = await self._consumer.topics()
        for topic in (topics.COMMANDS.name, topics.OUTCOMES.name):
            if topic not in there:
                raise PublisherBroken(f"The broker has no topic {topic}; `switchboard topics apply` makes it.")

    async def follow(self, partitions: int) -> None:
        """Takes its place on that many partitions, so that no outcome from now on is missed."""
        everything = [TopicPartition(topics.OUTCOMES.name, partition) for partition in range(partitions)]
        self._consumer.assign(everything)
        for partition, end in (await self._consumer.end_offsets(everything)).items():
            self._consumer.seek(partition, end)
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(self._reading_ended)

    def _reading_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._end(f"The outcomes cannot be read any more: {task.exception()!r}.")

    async def close(self) -> None:
        """Whoever still waits learns that nothing comes any more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._end("The publisher was closed before the outcome came; send again with the same id to learn it.")
        await let_go(self._consumer)

    def _end(self, why: str) -> None:
        self._ended = why
        for waiting in [one for several in self._waiting.values() for one in several]:
            if not waiting.outcome.done():
                waiting.outcome.set_exception(PublisherBroken(why))

    def expect(self, waiting: Waiting) -> None:
        """Before the command is published, so that its outcome cannot be missed. Raises `PublisherBroken`."""
        if self._ended is not None:
            raise PublisherBroken(self._ended)
        self._waiting.setdefault(waiting.key, []).append(waiting)

    def forget(self, waiting: Waiting) -> None:
        several = self._waiting[waiting.key]
        several.remove(waiting)
        if not several:
            del self._waiting[waiting.key]
        if waiting.outcome.done() and not waiting.outcome.cancelled():
            waiting.outcome.exception()  # whoever stopped waiting need not be told

    async def _read(self) -> None:
        while True:
            try:
                fetched = await self._consumer.getmany(timeout_ms=1_000)
            except KafkaError as error:
                log.warning("outcomes cannot be read: %s", type(error).__name__)
                await asyncio.sleep(1)
                continue
            for records in fetched.values():
                for record in records:
                    self._match(record)

    def _match(self, record: Any) -> None:
        headers = dict(record.headers)
        several = self._waiting.get((record.key, headers.get("causationid", b"")))
        if not several:
            return
        try:
            envelope = OutcomeEnvelope.model_validate_json(record.value)
            body = envelope.body()
        except ValidationError:
            log.error("the outcome at %s/%d/%d cannot be read", record.topic, record.partition, record.offset)
            return
        outcome = Outcome(envelope.causationid, body, envelope.repeated, self._opened(body))
        digest = headers.get("digest")
        for waiting in several:
            if waiting.outcome.done() or waiting.account != envelope.accountid:
                continue
            if digest is None:
                # Not decided: invalid, or its id was used for something else. Answers come in the commands' order.
                waiting.outcome.set_result(outcome)
                return
            if digest == waiting.digest:
                waiting.outcome.set_result(outcome)

    def _opened(self, body: CommandAccepted | CommandRejected) -> str | None:
        if self.seal_key is None or not isinstance(body, CommandAccepted) or body.sealed is None:
            return None
        try:
            return self.seal_key.open(body.sealed)
        except ValueError:
            return None  # it was sealed for somebody else's key, who opens it
