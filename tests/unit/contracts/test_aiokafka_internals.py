"""aiokafka still has the private names that the contracts' clients use, with the meaning that was read there."""

from __future__ import annotations

import asyncio
import gc
import inspect

import aiokafka
import pytest
import uvloop
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import Sender
from aiokafka.protocol.metadata import MetadataRequest

from contracts.kafka import aiokafka_internals


def test_the_version_that_was_read_is_installed() -> None:
    assert aiokafka.__version__ == aiokafka_internals.VERSION


async def test_a_producer_has_a_sender_and_an_accumulator() -> None:
    producer = aiokafka.AIOKafkaProducer()
    assert aiokafka_internals.is_producer(producer)
    assert aiokafka_internals.sender_task(producer) is None
    assert isinstance(aiokafka_internals.network_client(producer), AIOKafkaClient)
    assert isinstance(producer._message_accumulator, MessageAccumulator)
    aiokafka_internals.fail_unsent(producer, RuntimeError())
    assert "self._sender_task" in inspect.getsource(Sender.sender_task.fget)
    await producer.stop()


async def test_a_batch_that_fails_leaves_no_exception_that_nobody_retrieved(caplog: pytest.LogCaptureFixture) -> None:
    producer = aiokafka.AIOKafkaProducer()
    accumulator = producer._message_accumulator
    sent = await accumulator.add_message(TopicPartition("any", 0), b"key", b"value", timeout=1)
    aiokafka_internals.fail_unsent(producer, RuntimeError("the broker was away"))
    with pytest.raises(RuntimeError, match="the broker was away"):
        await sent
    await producer.stop()
    del producer, accumulator, sent
    gc.collect()
    assert [one.message for one in caplog.records if one.name == "asyncio"] == []


async def test_a_consumer_has_a_client_and_no_sender() -> None:
    consumer = aiokafka.AIOKafkaConsumer()
    assert not aiokafka_internals.is_producer(consumer)
    assert isinstance(aiokafka_internals.network_client(consumer), AIOKafkaClient)
    await consumer.stop()


def test_what_failing_all_batches_relies_on() -> None:
    source = inspect.getsource(MessageAccumulator.fail_all)
    assert "self._pending_batches" in source
    assert "self._batches" in inspect.getsource(MessageAccumulator)


async def test_what_closing_connections_relies_on() -> None:
    client = AIOKafkaClient(bootstrap_servers=[])
    assert inspect.iscoroutinefunction(client._get_conn)
    assert client._md_update_fut is None
    assert "_md_update_fut" in inspect.getsource(AIOKafkaClient.force_metadata_update)
    await aiokafka_internals.close_connections(client)
    assert client.force_metadata_update().result() is False


async def _send_after_the_connection_was_lost() -> None:
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = AIOKafkaConnection("127.0.0.1", port)
    connection._reader, connection._writer = await asyncio.open_connection("127.0.0.1", port)
    connection._versions, connection._read_task = {3: (0, 12)}, asyncio.create_task(asyncio.sleep(0))
    connection._writer.transport.abort()
    await asyncio.sleep(0.05)  # uvloop has closed it, and nobody has told aiokafka
    try:
        with pytest.raises(KafkaConnectionError, match="broken"):
            connection.send(MetadataRequest([]))
        assert not connection.connected()
    finally:
        server.close()
        for writer in accepted:
            writer.close()


def test_a_request_on_a_connection_that_uvloop_has_closed() -> None:
    uvloop.run(_send_after_the_connection_was_lost())
