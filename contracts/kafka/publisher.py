"""Publishing commands, and waiting for their outcomes.

    async with Publisher("127.0.0.1:9092", source="my-service", account="acme") as publisher:
        outcome = await publisher.send(ToggleSms(enabled=True), channel="ch-1")

The outcome of a command has the same partition number as the command. So the publisher reads the outcomes from a
position fixed before it sends anything, and matches ids. Sending the same id again within 24 hours is safe: it returns
the same outcome, and nothing happens twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from .. import topics
from ..envelope import Origin
from ..ids import new_id
from ..message import CommandData
from ..sealing import SealKey
from .client import DEFAULT_TIMEOUT_S, Client, Record
from .command_envelope import REQUEST_TOPICS
from .errors import OutcomeTimeout, PublisherError
from .outcome_reader import Outcome, OutcomeReader, PendingOutcome

__all__ = ["DEFAULT_TIMEOUT_S", "Outcome", "OutcomeTimeout", "Publisher", "PublisherError"]


class Publisher(Client):
    """An async context manager; safe to use from many tasks at once.

    Commands to one channel from one task, or in one `send_many`, are decided in that order.

    ``account`` and ``actor`` are defaults that `send` can override. ``security`` are aiokafka's keyword arguments.
    ``seal_key`` opens the secrets that are sealed for `seal_to`. Without one, the publisher makes its own; store one
    to be able to repeat a command after a restart.
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
        super().__init__(bootstrap_servers, source, account, actor, security)
        self._seal_key = seal_key
        self._outcomes: OutcomeReader

    def _new_reader(self) -> OutcomeReader:
        self._outcomes = OutcomeReader(self._seal_key, self._options)
        return self._outcomes

    @property
    def seal_to(self) -> str:
        """For a command's ``seal_to``: the outcome's ``secret`` is then decrypted."""
        if self._seal_key is None:
            self._seal_key = SealKey()
            if hasattr(self, "_outcomes"):
                self._outcomes.seal_key = self._seal_key
        return self._seal_key.seal_to

    async def send(
        self,
        /,
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
        origin: Origin | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Outcome:
        """Publishes a command and waits for its outcome. ``origin`` is who sends it beside the actor, and from where.

        Raises `OutcomeTimeout`, `PublisherError`, and ValueError on an invalid channel, account or command id, or on
        a request, which has no outcome.
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
            origin=origin,
            timeout=timeout,
        )

    async def send_raw(
        self,
        /,
        kind: str,
        data: dict[str, Any],
        *,
        channel: str,
        command_id: str | None = None,
        account: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        **attributes: Any,
    ) -> Outcome:
        """As `send`, with a type and data that only the decider validates."""
        if kind in REQUEST_TOPICS:
            raise ValueError(f"{kind} is a request, which has no outcome: publish it")
        given_id, account = command_id, self._resolve_account(account)
        command_id = given_id or new_id()
        value = self._envelope(kind, data, channel=channel, command_id=command_id, account=account, **attributes)
        pending = PendingOutcome(account, channel, command_id, value if given_id else None)
        record = self._on_partition_of(topics.COMMANDS.name, channel, value)
        outcome: Outcome = await self._request(record, pending, command_id, timeout)
        return outcome

    async def publish(
        self,
        /,
        command: CommandData,
        *,
        channel: str,
        command_id: str | None = None,
        account: str | None = None,
        topic: str | None = None,
        **attributes: Any,
    ) -> str:
        """Publishes without waiting for an outcome; returns the command's id once the broker has it.

        Takes what `send` takes, and what `REQUEST_TOPICS` names as well, each to its own topic unless one is named;
        ``channel`` is then the record's key. Raises `PublisherError` and ValueError.
        """
        command_id = command_id or new_id()
        await self._append(self._record(command, channel, command_id, account=account, topic=topic, **attributes))
        return command_id

    async def publish_many(
        self,
        /,
        commands: Iterable[tuple[str, CommandData] | tuple[str, CommandData, str]],
        *,
        progress: Callable[[int], None] = lambda _: None,
        at_once: int = 1_000,
        **attributes: Any,
    ) -> list[str]:
        """Publishes (channel, command) or (channel, command, command id) in batches of ``at_once``; returns the ids in
        order. Calls ``progress`` with the number that the broker has. Stops at the first exception."""
        ids: list[str] = []
        pending = iter(commands)
        while some := list(islice(pending, at_once)):
            records = []
            for channel, command, *given in some:
                ids.append(given[0] if given else new_id())
                records.append(self._record(command, channel, ids[-1], **attributes))
            await self._append(*records)
            progress(len(ids))
        return ids

    async def send_many(
        self,
        /,
        commands: Iterable[tuple[str, CommandData] | tuple[str, CommandData, str]],
        *,
        progress: Callable[[int], None] = lambda _: None,
        at_once: int = 1_000,
        **attributes: Any,
    ) -> list[Outcome]:
        """Sends (channel, command) or (channel, command, command id), at most ``at_once`` in flight; returns outcomes
        in order. Calls ``progress`` with the number of outcomes. Stops at the first exception."""
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

    def _record(
        self,
        command: CommandData,
        channel: str,
        command_id: str,
        *,
        account: str | None = None,
        topic: str | None = None,
        **attributes: Any,
    ) -> Record:
        kind, data = type(command).__name__, command.model_dump(exclude_unset=True, by_alias=True)
        attributes["account"] = self._resolve_account(account)
        value = self._envelope(kind, data, channel=channel, command_id=command_id, **attributes)
        return self._on_partition_of(topic or REQUEST_TOPICS.get(kind, topics.COMMANDS).name, channel, value)
