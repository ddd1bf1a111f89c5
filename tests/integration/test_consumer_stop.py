"""A consumer stops, whatever it was just assigned, and a connection closes, whatever the broker does."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.conn import AIOKafkaConnection

from contracts import topics
from services.infrastructure.topics import apply_topics
from tests.certificates import write_certificate
from tests.patience import PATIENCE_S
from tests.servers import PARTITIONS, Servers


@pytest.mark.parametrize("turns", range(8))
async def test_a_consumer_that_was_assigned_something_else_just_before(shared_servers: Servers, turns: int) -> None:
    """aiokafka's fetcher has taken the cancellation for that of the fetch which it cancels itself, and gone on."""
    await apply_topics(shared_servers.bootstrap_servers, PARTITIONS, {})
    consumer = AIOKafkaConsumer(bootstrap_servers=shared_servers.bootstrap_servers)
    await consumer.start()
    consumer.assign([TopicPartition(topics.EVENTS.name, 0)])
    await consumer.seek_to_end()
    await consumer.getmany(timeout_ms=50)
    consumer.assign([TopicPartition(topics.EVENTS.name, 1)])
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await consumer.stop()


@pytest.mark.parametrize("ended", [False, True], ids=["paused", "ended"])
async def test_a_connection_over_tls_closes_whatever_the_broker_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ended: bool
) -> None:
    """Python waits 30 s for a paused broker's goodbye, and a decider would give nobody its partition meanwhile."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write_certificate(certificate, key, "localhost", days=1)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(certificate, key)
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))

    async def pause(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(writer.transport, asyncio.Transport)
        writer.transport.pause_reading()
        accepted.put_nowait(writer)

    async def nothing(_: object) -> None:
        pass

    monkeypatch.setattr(AIOKafkaConnection, "_do_version_lookup", nothing)
    async with await asyncio.start_server(pause, "localhost", 0, ssl=serving) as server:
        port = server.sockets[0].getsockname()[1]
        trusting = ssl.create_default_context(cafile=str(certificate))
        connection = AIOKafkaConnection("localhost", port, ssl_context=trusting, security_protocol="SSL")
        await connection.connect()
        broker = await accepted.get()
        if ended:
            reading = connection._read_task
            broker.transport.abort()
            await asyncio.gather(reading, return_exceptions=True)
        async with asyncio.timeout(20):  # less than Python's 30
            await connection.close()
        broker.transport.abort()
    assert problems == []
