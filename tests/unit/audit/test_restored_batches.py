"""What a restore writes: a topic takes a batch that is little larger than its largest record."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from contracts import topics
from services.audit.log import restore
from services.audit.log.copied_log import CopiedRecord
from services.audit.log.kafka_log import KafkaLog
from services.audit.log.source import no_progress
from services.infrastructure.library_internals.aiokafka import mark_closed
from services.infrastructure.transactions import TransactionalProducer

_COMMANDS = TopicPartition(topics.COMMANDS.name, 0)
_TAKES = int(topics.COMMANDS.settings["max.message.bytes"])


async def test_a_large_record_is_in_a_batch_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [200_000, 1_900_000, 200_000]
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", max_batch_size=restore._LARGEST_BATCH_BYTES)
    written: list[int] = []
    offset = 0

    async def send_batch(batch: Any, *_: object, **__: object) -> asyncio.Future[Any]:
        nonlocal offset
        written.append(batch.size())
        sent: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        sent.set_result(cast("Any", type("Sent", (), {"offset": offset})))
        offset += batch.record_count()
        return sent

    monkeypatch.setattr(producer, "send_batch", send_batch)
    padding, log = cast("TransactionalProducer", None), cast("KafkaLog", None)
    partition = restore._Partition(_COMMANDS, producer, padding, log, 0)
    try:
        records = [
            CopiedRecord(_COMMANDS.topic, 0, number, 1, b"ch-1", b"x" * size, ()) for number, size in enumerate(sizes)
        ]
        await partition.write(records, no_progress)
    finally:
        mark_closed(producer)

    assert max(written) <= _TAKES
    assert len(written) == 3
