"""The limit: a consume-transact-produce loop of the decider's shape that decides nothing.

One process, one transactional id a partition, up to 500 commands a transaction, three output records a command (or one
to each of the topics that are named), each with the command's own bytes as its value. Either record by record with
`send`, or as whole batches.

    python -m tests.bench.bare_loop send|batches bootstrap-servers prefix partitions [output …]
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.producer import sender as aiokafka_sender

from contracts.topics import FETCH_BYTES_PER_PARTITION
from services.decider.partition_owner import COMMANDS_PER_TRANSACTION
from services.infrastructure.transactions import LARGEST_BATCH_BYTES, TRANSACTION_TIMEOUT_MS
from tests.bench.child_process import report_ready

OUTPUTS = tuple(sys.argv[5:]) or ("events", "outcomes", "state")


async def _own(how: str, bootstrap_servers: str, prefix: str, partition: int, ready: asyncio.Event) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        transactional_id=f"{prefix}-{partition}",
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        max_batch_size=LARGEST_BATCH_BYTES,
    )
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="latest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES_PER_PARTITION,
    )
    await producer.start()
    await consumer.start()
    commands = TopicPartition(f"{prefix}.commands", partition)
    consumer.assign([commands])
    await consumer.seek_to_end(commands)
    ready.set()
    append = _send if how == "send" else _send_batches
    while True:
        fetched = await consumer.getmany(commands, timeout_ms=500, max_records=COMMANDS_PER_TRANSACTION)
        if records := fetched.get(commands):
            await producer.begin_transaction()
            await append(producer, prefix, partition, records)
            await producer.commit_transaction()


async def _send(producer: Any, prefix: str, partition: int, records: list[Any]) -> None:
    sends = [
        await producer.send(
            f"{prefix}.{output}", record.value, key=record.key, partition=partition, headers=list(record.headers)
        )
        for record in records
        for output in OUTPUTS
    ]
    await asyncio.gather(*sends)


async def _send_batches(producer: Any, prefix: str, partition: int, records: list[Any]) -> None:
    sends = []
    for output in OUTPUTS:
        batch = producer.create_batch()
        for record in records:
            fields = {"key": record.key, "value": record.value, "timestamp": record.timestamp}
            if batch.append(**fields, headers=list(record.headers)) is None:
                sends.append(await producer.send_batch(batch, f"{prefix}.{output}", partition=partition))
                batch = producer.create_batch()
                batch.append(**fields, headers=list(record.headers))
        sends.append(await producer.send_batch(batch, f"{prefix}.{output}", partition=partition))
    await asyncio.gather(*sends)


async def main(how: str, bootstrap_servers: str, prefix: str, partitions: int) -> None:
    ready = [asyncio.Event() for _ in range(partitions)]
    async with asyncio.TaskGroup() as tasks:
        for partition, event in enumerate(ready):
            tasks.create_task(_own(how, bootstrap_servers, prefix, partition, event))
        for event in ready:
            await event.wait()
        report_ready()


if __name__ == "__main__":
    aiokafka_sender.BACKOFF_OVERRIDE = 0.001  # as the decider has it
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
