"""What the clients have in common that publish requests and wait for their answers."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from aiokafka.errors import KafkaConnectionError, KafkaError, MessageSizeTooLargeError, ProducerClosed

from ..partitioner import partition_of
from ..topics import GROWING, LARGEST_RECORD_BYTES
from .answer_reader import AnswerReader, Pending
from .command_envelope import command_envelope
from .errors import NotOpen, OutcomeTimeout, PublisherError
from .idempotent_producer import IdempotentProducer

DEFAULT_TIMEOUT_S = 30.0
_GROWING = frozenset(topic.name for topic in GROWING)
_RESEND_AFTER_S = 10.0

Record = tuple[str, int, bytes, bytes | None]
"""Topic, partition, key, value; without a value it deletes what the key names."""


class Client:
    """An async context manager. ``security`` are aiokafka's keyword arguments."""

    _largest_record = LARGEST_RECORD_BYTES

    def __init__(
        self, bootstrap_servers: str, source: str, account: str | None, actor: str | None, security: dict[str, Any]
    ) -> None:
        self._source, self._account, self._actor = source, account, actor
        self._bootstrap_servers = bootstrap_servers
        self._options: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, **security}
        self._producer: IdempotentProducer
        self._reader: AnswerReader[Any]
        self._partitions = self._partitions_at_first = 0

    def _new_reader(self) -> AnswerReader[Any]:
        raise NotImplementedError

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
        self._producer = IdempotentProducer(self._options, self._largest_record)
        self._reader = self._new_reader()
        requests, answers = self._reader.requests.name, self._reader.answers.name
        try:
            await self._reader.start()
            await self._producer.start()
            asked, answering = [await self._producer.partitions_of(topic) for topic in (requests, answers)]
            growth = await self._reader.growth()
            if answering != asked and growth.unfinished is None:
                raise PublisherError(
                    f"{requests} has {asked} partitions and {answers} {answering}; "
                    "both topics must have the same number of partitions."
                )
            # For as long as the client is open: requests to one channel stay in order. After a growth, those that moved
            # are forwarded in their order.
            self._partitions, self._partitions_at_first = growth.count(asked), growth.count_at_first(asked)
            await self._reader.follow(answering)
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
        await self._reader.close()
        await self._producer.close()

    def _broken(self, error: KafkaError | OSError) -> PublisherError:
        if isinstance(error, (KafkaConnectionError, OSError)):
            return PublisherError(f"No broker answers at {self._bootstrap_servers}.")
        if isinstance(error, MessageSizeTooLargeError):
            return PublisherError("The command is larger than the broker takes; nothing was published.")
        if isinstance(error, ProducerClosed):
            return PublisherError(f"The {type(self).__name__.lower()} is closed; nothing was published.")
        return PublisherError(f"The broker refuses: {str(error) or type(error).__name__}.")

    async def _request(self, record: Record, pending: Pending, request_id: str, timeout: float) -> Any:
        """Publishes a request and waits for its answer; publishes it again where none comes. Raises `OutcomeTimeout`
        and `PublisherError`."""
        self._reader.register(pending)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    await self._append(record)
                    done, _ = await asyncio.wait([pending.answer], timeout=_RESEND_AFTER_S)
                    if done:
                        return pending.answer.result()
        except TimeoutError:
            raise OutcomeTimeout(request_id, timeout) from None
        finally:
            self._reader.unregister(pending)

    async def _append(self, *records: Record) -> None:
        try:
            if len(records) == 1:
                await self._producer.append(*records[0])
            else:
                await self._producer.append_all(records)
        except (KafkaError, OSError) as error:
            raise self._broken(error) from error

    def _on_partition_of(self, topic: str, channel: str, value: bytes | None) -> Record:
        if not self._partitions:
            raise NotOpen(type(self).__name__)
        partitions = self._partitions if topic in _GROWING else self._partitions_at_first
        return topic, partition_of(channel, partitions), channel.encode(), value

    def _resolve_account(self, account: str | None) -> str:
        account = account or self._account
        if account is None:
            raise ValueError(f"a command needs an account: give one to the {type(self).__name__} or to the call")
        return account

    def _envelope(self, kind: str, data: dict[str, Any], *, actor: str | None = None, **attributes: Any) -> bytes:
        return command_envelope(kind, data, source=self._source, actor=actor or self._actor, **attributes)
