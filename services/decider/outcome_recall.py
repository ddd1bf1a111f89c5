"""Reads first outcomes again from `switchboard.outcomes`, for commands whose id is repeated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from contracts import topics
from contracts.envelope import InvalidEnvelope, UndecodableEnvelope, read_command
from services.decider.batch import COMMAND_BYTES_LIMIT
from services.decider.encoding import data_of
from services.decider.idempotency_window import IdempotencyWindow, RememberedOutcome, idempotency_key
from services.decider.routing import IncomingCommand

_WAIT_MS = 5_000


_LOST = RememberedOutcome(b"", b"")
"""Stands for a first outcome that an operator deleted from its topic: its digest is no command's, so the id is refused
as reused. Deciding the command a second time would be worse."""


class OutcomeRecall:
    """One consumer for a partition, started when it is first needed."""

    def __init__(self, bootstrap_servers: str, security: dict[str, Any], partition: int) -> None:
        self._bootstrap_servers, self._security = bootstrap_servers, security
        self._partition = partition
        self._consumer: AIOKafkaConsumer | None = None

    async def recall(
        self, window: IdempotencyWindow, commands: Iterable[IncomingCommand]
    ) -> dict[str, RememberedOutcome | None]:
        """The first outcomes of those commands that are repeats, by key; None where the id is unused after all.

        Raises KafkaError.
        """
        by_partition: dict[int, list[tuple[int, str]]] = {}
        for key in command_keys(commands):
            if (place := window.position_of(key)) is not None:
                partition = self._partition if place.partition is None else place.partition
                by_partition.setdefault(partition, []).append((place.offset, key))
        found: dict[str, RememberedOutcome | None] = {}
        for partition, remaining in by_partition.items():
            remaining.sort()
            while remaining:
                records = await self._read_from(TopicPartition(topics.OUTCOMES.name, partition), remaining[0][0])
                read = {record.offset: record for record in records}
                last = max(read)
                for offset, key in remaining:
                    if offset <= last:
                        found[key] = outcome_of(read[offset], key) if offset in read else _LOST
                remaining = [(offset, key) for offset, key in remaining if offset > last]
        return found

    async def _read_from(self, outcomes: TopicPartition, offset: int) -> list[Any]:
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap_servers,
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                **self._security,
            )
            await self._consumer.start()
        if self._consumer.assignment() != {outcomes}:
            self._consumer.assign([outcomes])
        self._consumer.seek(outcomes, offset)
        fetched = await self._consumer.getmany(outcomes, timeout_ms=_WAIT_MS)
        records = list(fetched.get(outcomes, ()))
        if not records:
            raise KafkaTimeoutError(f"no outcome came from offset {offset} on")
        return records

    async def close(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()


def command_keys(commands: Iterable[IncomingCommand]) -> set[str]:
    """The idempotency keys of the commands that can be read."""
    keys = set()
    for incoming in commands:
        try:
            command = read_command(incoming.value, COMMAND_BYTES_LIMIT)
        except (InvalidEnvelope, UndecodableEnvelope):
            continue
        keys.add(idempotency_key(command.accountid, command.subject, command.id))
    return keys


def outcome_of(record: Any, key: str) -> RememberedOutcome | None:
    """The outcome in a record; None where it answers another id, whose hash is the same."""
    headers = dict(record.headers)
    account, command_id = headers.get("accountid", b"").decode(), headers.get("causationid", b"").decode()
    if idempotency_key(account, (record.key or b"").decode(), command_id) != key:
        return None
    return RememberedOutcome(headers.get("digest", b""), data_of(record.value))
