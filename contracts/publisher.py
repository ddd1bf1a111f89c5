"""Publishing commands, and waiting for their outcomes.

    async with Publisher("127.0.0.1:9092", source="my-service", account="acme") as publisher:
        outcome = await publisher.send(ToggleSms(enabled=True), channel="ch-1")

The outcome of a command lies on the partition number that its channel has, with the command's id in a header; so the
publisher reads the outcomes as they come, from a position taken before it sent anything, and matches ids. Sending the
same id again is always safe: the answer is the same, and nothing happens twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from pydantic_core import to_json

from . import topics
from .envelope import CONTENT_TYPE
from .ids import new_id
from .message import CommandData, rfc3339
from .outcome import CommandAccepted, CommandRejected, OutcomeEnvelope
from .partitioner import partition_of

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 30.0
_RESEND_AFTER_S = 10.0


class OutcomeTimeout(Exception):
    """No outcome within the time-out. The command may yet be decided: send it again with the same id to learn."""

    def __init__(self, command_id: str, seconds: float) -> None:
        super().__init__(
            f"No outcome within {seconds:g} s. Command {command_id} may yet be decided; "
            "send it again with the same id to get its answer."
        )
        self.command_id = command_id


class PublisherBroken(Exception):
    """The broker cannot be reached, or refuses the command."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to a command. ``repeated``: the id had been answered before, in the same words."""

    command_id: str
    body: CommandAccepted | CommandRejected
    repeated: bool

    @property
    def accepted(self) -> bool:
        return isinstance(self.body, CommandAccepted)

    @property
    def version(self) -> int | None:
        return self.body.version


class Publisher:
    """An async context manager; safe to use from many tasks at once.

    ``account`` and ``actor`` are defaults that `send` can override. ``security`` are aiokafka's keyword arguments.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        source: str,
        account: str | None = None,
        actor: str | None = None,
        **security: Any,
    ) -> None:
        self._source, self._account, self._actor = source, account, actor
        self._options: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, **security}
        self._producer: Any = None
        self._consumer: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[tuple[str, str], asyncio.Future[Outcome]] = {}
        self._partitions = 0

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(enable_idempotence=True, max_request_size=2 * 1024 * 1024, **self._options)
        self._consumer = AIOKafkaConsumer(
            isolation_level="read_committed", auto_offset_reset="latest", enable_auto_commit=False, **self._options
        )
        try:
            await self._producer.start()
            self._partitions = len(await self._producer.partitions_for(topics.COMMANDS.name))
            await self._consumer.start()
            await self._follow_outcomes()
        except BaseException as error:
            await self._close()
            if isinstance(error, (KafkaError, OSError)):
                raise PublisherBroken(f"The broker cannot be used: {error}.") from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for waiting in self._waiting.values():
            waiting.cancel()
        await self._consumer.stop()
        await self._producer.stop()

    async def send(
        self,
        command: CommandData,
        *,
        channel: str,
        expected_version: int | None = None,
        command_id: str | None = None,
        dry_run: bool = False,
        account: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Outcome:
        """Publishes a command and waits for its outcome. Raises `OutcomeTimeout` and `PublisherBroken`."""
        return await self.send_raw(
            type(command).__name__,
            command.model_dump(exclude_unset=True, by_alias=True),
            channel=channel,
            expected_version=expected_version,
            command_id=command_id,
            dry_run=dry_run,
            account=account,
            actor=actor,
            correlation_id=correlation_id,
            traceparent=traceparent,
            timeout=timeout,
        )

    async def send_raw(
        self,
        kind: str,
        data: dict[str, Any],
        *,
        channel: str,
        command_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        **attributes: Any,
    ) -> Outcome:
        """As `send`, with a type and data that nobody has checked yet: the decider judges them."""
        command_id = command_id or new_id()
        value = self._envelope(kind, data, channel=channel, command_id=command_id, **attributes)
        key = (channel, command_id)
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                return await self._publish_until_answered(channel, value, waiting)
        except TimeoutError:
            raise OutcomeTimeout(command_id, timeout) from None
        finally:
            if self._waiting.get(key) is waiting:
                del self._waiting[key]

    async def _publish_until_answered(self, channel: str, value: bytes, waiting: asyncio.Future[Outcome]) -> Outcome:
        while True:
            await (await self._publish(topics.COMMANDS.name, channel, value))
            done, _ = await asyncio.wait([waiting], timeout=_RESEND_AFTER_S)
            if done:
                return waiting.result()

    async def publish(
        self, command: CommandData, *, channel: str, topic: str = topics.COMMANDS.name, **attributes: Any
    ) -> str:
        """Publishes without waiting for the outcome; returns the command's id once the broker has it."""
        command_id = attributes.pop("command_id", None) or new_id()
        data = command.model_dump(exclude_unset=True, by_alias=True)
        value = self._envelope(type(command).__name__, data, channel=channel, command_id=command_id, **attributes)
        await (await self._publish(topic, channel, value))
        return command_id

    async def send_many(
        self,
        commands: Iterable[tuple[str, CommandData]],
        *,
        progress: Callable[[int], None] = lambda _: None,
        at_once: int = 1_000,
        **attributes: Any,
    ) -> list[Outcome]:
        """Sends (channel, command) pairs, many in flight, and tells ``progress`` how many are answered."""
        slots = asyncio.Semaphore(at_once)
        done = 0

        async def one(channel: str, command: CommandData) -> Outcome:
            nonlocal done
            try:
                return await self.send(command, channel=channel, **attributes)
            finally:
                slots.release()
                done += 1
                progress(done)

        tasks = []
        for channel, command in commands:
            await slots.acquire()
            tasks.append(asyncio.create_task(one(channel, command)))
        return await asyncio.gather(*tasks)

    async def _publish(self, topic: str, channel: str, value: bytes) -> asyncio.Future[Any]:
        try:
            sent: asyncio.Future[Any] = await self._producer.send(
                topic,
                value,
                key=channel.encode(),
                partition=partition_of(channel, self._partitions),
                headers=[CONTENT_TYPE],
            )
        except KafkaError as error:
            raise PublisherBroken(f"The command cannot be published: {error}.") from error
        return sent

    def _envelope(
        self,
        kind: str,
        data: dict[str, Any],
        *,
        channel: str,
        command_id: str,
        expected_version: int | None = None,
        dry_run: bool = False,
        account: str | None = None,
        actor: str | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> bytes:
        account = account or self._account
        if account is None:
            raise ValueError("a command needs an account: give one to the Publisher or to send")
        optional = {
            "actor": actor or self._actor,
            "expectedversion": expected_version,
            "dryrun": dry_run or None,
            "correlationid": correlation_id,
            "traceparent": traceparent,
        }
        return to_json(
            {
                "specversion": "1.0",
                "id": command_id,
                "type": kind,
                "source": self._source,
                "subject": channel,
                "time": _now(),
                "accountid": account,
                **{name: value for name, value in optional.items() if value is not None},
                "datacontenttype": "application/json",
                "data": data,
            }
        )

    async def _follow_outcomes(self) -> None:
        everything = [TopicPartition(topics.OUTCOMES.name, partition) for partition in range(self._partitions)]
        self._consumer.assign(everything)
        ends = await self._consumer.end_offsets(everything)
        for partition, end in ends.items():
            self._consumer.seek(partition, end)
        self._reader = asyncio.create_task(self._read_outcomes())

    async def _read_outcomes(self) -> None:
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
        if not self._waiting or record.key is None:
            return
        command_id = next((value for name, value in record.headers if name == "causationid"), b"").decode()
        waiting = self._waiting.get((record.key.decode(), command_id))
        if waiting is not None and not waiting.done():
            envelope = OutcomeEnvelope.model_validate_json(record.value)
            waiting.set_result(Outcome(command_id, envelope.body(), envelope.repeated))


def _now() -> str:
    return rfc3339(time.time_ns() // 1_000_000)
