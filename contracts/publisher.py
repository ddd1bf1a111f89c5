"""Publishing commands, and waiting for their outcomes.

    async with Publisher("127.0.0.1:9092", source="my-service", account="acme") as publisher:
        outcome = await publisher.send(ToggleSms(enabled=True), channel="ch-1")

The outcome of a command lies on the partition number that its channel has; so the publisher reads the outcomes as they
come, from a position taken before it sent anything, and matches ids. Sending the same id again is always safe: the
answer is the same, and nothing happens twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import islice
from types import TracebackType
from typing import Any, Self

from aiokafka.errors import KafkaConnectionError, KafkaError, MessageSizeTooLargeError, ProducerClosed
from pydantic_core import from_json, to_json

from . import topics
from .idempotent_producer import IdempotentProducer
from .ids import is_name, new_id
from .invocation import InvokeIntent, MakeTestCall
from .message import CommandData, rfc3339
from .otp_routing import RouteOtp
from .outcome_reader import Outcome, OutcomeReader, PublisherBroken, Waiting
from .partitioner import partition_of
from .sealing import SealKey

__all__ = ["DEFAULT_TIMEOUT_S", "Outcome", "OutcomeTimeout", "Publisher", "PublisherBroken"]

DEFAULT_TIMEOUT_S = 30.0
_RESEND_AFTER_S = 10.0
_REQUESTS = {
    InvokeIntent.__name__: topics.INVOCATION_REQUESTS,
    MakeTestCall.__name__: topics.INVOCATION_REQUESTS,
    RouteOtp.__name__: topics.OTP_REQUESTS,
}


_Record = tuple[str, int, bytes, bytes]
"""Topic, partition, key, value."""


class OutcomeTimeout(Exception):
    """No outcome within the time-out. The command may yet be decided: send it again with the same id to learn."""

    def __init__(self, command_id: str, seconds: float) -> None:
        super().__init__(
            f"No outcome within {seconds:g} s. Command {command_id} may yet be decided; "
            "send it again with the same id to get its answer."
        )
        self.command_id = command_id


class Publisher:
    """An async context manager; safe to use from many tasks at once. What is sent to a channel from one task, or in one
    `send_many`, is decided in that order.

    ``account`` and ``actor`` are defaults that `send` can override. ``security`` are aiokafka's keyword arguments.
    ``seal_key`` opens the secrets that are sealed for `seal_to`; without one, the publisher makes its own. Keep one
    yourself to be able to send the same command again after a restart.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        source: str,
        account: str | None = None,
        actor: str | None = None,
        seal_key: SealKey | None = None,
        **security: Any,
    ) -> None:
        self._source, self._account, self._actor = source, account, actor
        self._bootstrap_servers, self._seal_key = bootstrap_servers, seal_key
        self._options: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, **security}
        self._producer: IdempotentProducer
        self._outcomes: OutcomeReader
        self._partitions = 0

    @property
    def seal_to(self) -> str:
        """For a command's ``seal_to``: what is sealed for it comes back opened, as the outcome's ``secret``."""
        if self._seal_key is None:
            self._seal_key = self._outcomes.seal_key = SealKey()
        return self._seal_key.seal_to

    async def __aenter__(self) -> Self:
        opening = asyncio.ensure_future(self._open())
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            # An aiokafka client that is cancelled while it starts leaves its connections behind.
            [failed] = await asyncio.gather(opening, return_exceptions=True)
            if failed is None:
                await self._close()
            raise
        return self

    async def _open(self) -> None:
        self._producer = IdempotentProducer(self._options)
        self._outcomes = OutcomeReader(self._seal_key, self._options)
        try:
            await self._outcomes.start()
            await self._producer.start()
            self._partitions = await self._producer.partitions_of(topics.COMMANDS.name)
            answers = await self._producer.partitions_of(topics.OUTCOMES.name)
            if answers != self._partitions:
                raise PublisherBroken(
                    f"{topics.COMMANDS.name} has {self._partitions} partitions and {topics.OUTCOMES.name} {answers}; "
                    "outcomes can be found only where the numbers are the same."
                )
            await self._outcomes.follow(self._partitions)
        except BaseException as error:
            await self._close()
            if isinstance(error, (KafkaError, OSError)):
                raise self._broken(error) from error
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        await self._outcomes.close()
        await self._producer.close()

    def _broken(self, error: KafkaError | OSError) -> PublisherBroken:
        if isinstance(error, (KafkaConnectionError, OSError)):
            return PublisherBroken(f"No broker answers at {self._bootstrap_servers}.")
        if isinstance(error, MessageSizeTooLargeError):
            return PublisherBroken("The command is larger than the broker takes; nothing was published.")
        if isinstance(error, ProducerClosed):
            return PublisherBroken("The publisher is closed; nothing was published.")
        return PublisherBroken(f"The broker refuses: {str(error) or type(error).__name__}.")

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
        """Publishes a command and waits for its outcome.

        Raises `OutcomeTimeout`, `PublisherBroken`, and ValueError where there is no such channel, account or command
        id, or the command is one that has no outcome.
        """
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
        account: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        **attributes: Any,
    ) -> Outcome:
        """As `send`, with a type and data that nobody has checked yet: the decider judges them."""
        if kind in _REQUESTS:
            raise ValueError(f"{kind} is a request, which has no outcome: publish it")
        command_id, account = command_id or new_id(), self._account_or(account)
        value = self._envelope(kind, data, channel=channel, command_id=command_id, account=account, **attributes)
        waiting = Waiting(account, channel, command_id, value)
        self._outcomes.expect(waiting)
        try:
            async with asyncio.timeout(timeout):
                return await self._publish_until_answered(channel, value, waiting)
        except TimeoutError:
            raise OutcomeTimeout(command_id, timeout) from None
        finally:
            self._outcomes.forget(waiting)

    async def _publish_until_answered(self, channel: str, value: bytes, waiting: Waiting) -> Outcome:
        while True:
            await self._append(self._at_home(topics.COMMANDS.name, channel, value))
            done, _ = await asyncio.wait([waiting.outcome], timeout=_RESEND_AFTER_S)
            if done:
                return waiting.outcome.result()

    async def publish(
        self,
        command: CommandData,
        *,
        channel: str,
        command_id: str | None = None,
        account: str | None = None,
        topic: str | None = None,
        **attributes: Any,
    ) -> str:
        """Publishes without waiting for an outcome; returns the command's id once the broker has it.

        Takes what `send` takes, and requests (`InvokeIntent`, `MakeTestCall`, `RouteOtp`) as well, each to its own
        topic unless one is named. Raises `PublisherBroken` and ValueError.
        """
        command_id = command_id or new_id()
        await self._append(self._record(command, channel, command_id, account=account, topic=topic, **attributes))
        return command_id

    async def publish_many(
        self,
        commands: Iterable[tuple[str, CommandData] | tuple[str, CommandData, str]],
        *,
        progress: Callable[[int], None] = lambda _: None,
        at_once: int = 1_000,
        **attributes: Any,
    ) -> list[str]:
        """Publishes (channel, command) or (channel, command, command id) as `publish` does, so many at once, and tells
        ``progress`` how many the broker has. Returns their ids in the same order; the first that raises ends the rest.
        """
        ids: list[str] = []
        waiting = iter(commands)
        while some := list(islice(waiting, at_once)):
            records = []
            for channel, command, *given in some:
                ids.append(given[0] if given else new_id())
                records.append(self._record(command, channel, ids[-1], **attributes))
            await self._append(*records)
            progress(len(ids))
        return ids

    async def send_many(
        self,
        commands: Iterable[tuple[str, CommandData] | tuple[str, CommandData, str]],
        *,
        progress: Callable[[int], None] = lambda _: None,
        at_once: int = 1_000,
        **attributes: Any,
    ) -> list[Outcome]:
        """Sends (channel, command) or (channel, command, command id), many in flight, and tells ``progress`` how many
        are answered. Returns their outcomes in the same order; the first that raises ends the rest."""
        slots = asyncio.Semaphore(at_once)
        done = 0

        async def one(channel: str, command: CommandData, command_id: str | None = None) -> Outcome:
            nonlocal done
            try:
                outcome = await self.send(command, channel=channel, command_id=command_id, **attributes)
            finally:
                slots.release()
            done += 1
            progress(done)
            return outcome

        tasks = []
        try:
            for command in commands:
                await slots.acquire()
                tasks.append(asyncio.create_task(one(*command)))
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _append(self, *records: _Record) -> None:
        try:
            if len(records) == 1:
                await self._producer.append(*records[0])
            else:
                await self._producer.append_all(records)
        except (KafkaError, OSError) as error:
            raise self._broken(error) from error

    def _record(
        self,
        command: CommandData,
        channel: str,
        command_id: str,
        *,
        account: str | None = None,
        topic: str | None = None,
        **attributes: Any,
    ) -> _Record:
        kind, data = type(command).__name__, command.model_dump(exclude_unset=True, by_alias=True)
        attributes["account"] = self._account_or(account)
        value = self._envelope(kind, data, channel=channel, command_id=command_id, **attributes)
        return self._at_home(topic or _REQUESTS.get(kind, topics.COMMANDS).name, channel, value)

    def _at_home(self, topic: str, channel: str, value: bytes) -> _Record:
        return topic, partition_of(channel, self._partitions), channel.encode(), value

    def _account_or(self, account: str | None) -> str:
        account = account or self._account
        if account is None:
            raise ValueError("a command needs an account: give one to the Publisher or to send")
        return account

    def _envelope(
        self,
        kind: str,
        data: dict[str, Any],
        *,
        channel: str,
        command_id: str,
        account: str,
        expected_version: int | None = None,
        dry_run: bool = False,
        actor: str | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> bytes:
        for what, name in (("channel", channel), ("command_id", command_id), ("account", account)):
            if not is_name(name):
                raise ValueError(f"{what} is {name!r}; it must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
        optional = {
            "actor": actor or self._actor,
            "expectedversion": expected_version,
            "dryrun": dry_run or None,
            "correlationid": correlation_id,
            "traceparent": traceparent,
        }
        value = to_json(
            {
                "specversion": "1.0",
                "id": command_id,
                "type": kind,
                "source": self._source,
                "subject": channel,
                "time": rfc3339(time.time_ns() // 1_000_000),
                "accountid": account,
                **{name: value for name, value in optional.items() if value is not None},
                "datacontenttype": "application/json",
                "data": data,
            }
        )
        if b"NaN" in value or b"Infinity" in value:
            try:  # it may be in a text
                from_json(value, allow_inf_nan=False)
            except ValueError:
                raise ValueError("the data holds NaN or an infinity, which JSON does not have") from None
        return value
