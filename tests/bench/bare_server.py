"""The limits of the gateway: a bare FastAPI server on bare Kafka clients.

``commands`` writes each request to Kafka and answers with its outcome. ``changes`` sends every record of a topic to
every reader, as server-sent events.

python -m tests.bench.bare_server commands|changes bootstrap-servers topic-to-read partitions port [topic-to-write]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from tests.bench.child_process import report_ready


@asynccontextmanager
async def _reading(
    bootstrap_servers: str, topic: str, partitions: int, receive: Callable[[Iterable[list[Any]]], None]
) -> AsyncIterator[None]:
    """Passes all new records of the topic to ``receive``."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, isolation_level="read_committed")
    await consumer.start()
    topic_partitions = [TopicPartition(topic, partition) for partition in range(partitions)]
    consumer.assign(topic_partitions)
    await consumer.seek_to_end(*topic_partitions)

    async def read() -> None:
        while True:
            receive((await consumer.getmany(timeout_ms=1_000)).values())

    reading = asyncio.create_task(read())
    report_ready()
    yield
    reading.cancel()
    await consumer.stop()


def command_server(bootstrap_servers: str, topic: str, partitions: int, commands: str) -> FastAPI:
    pending: dict[bytes, asyncio.Future[bytes]] = {}
    producer: Any = None

    def receive(batches: Iterable[list[Any]]) -> None:
        for records in batches:
            for record in records:
                future = pending.pop(record.key, None)
                if future is not None:
                    future.set_result(record.value)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal producer
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True)
        await producer.start()
        async with _reading(bootstrap_servers, topic, partitions, receive):
            yield
        await producer.stop()

    app = FastAPI(lifespan=lifespan)

    @app.put("/v1/channels/{channel}/sms")
    async def put(channel: str, request: Request) -> Response:
        key = channel.encode()
        outcome = pending[key] = asyncio.get_running_loop().create_future()
        await producer.send(commands, await request.body(), key=key)
        return Response(await outcome, media_type="application/json")

    return app


def change_server(bootstrap_servers: str, topic: str, partitions: int) -> FastAPI:
    frames: list[bytes] = []
    changed = asyncio.Event()

    def receive(batches: Iterable[list[Any]]) -> None:
        nonlocal changed
        for records in batches:
            frames.extend(b"data: %b\n\n" % record.value for record in records)
        changed.set()
        changed = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with _reading(bootstrap_servers, topic, partitions, receive):
            yield

    async def stream() -> AsyncIterator[bytes]:
        position = len(frames)
        yield b": from here on\n\n"
        while True:
            if position == len(frames):
                await changed.wait()
            chunk = frames[position : position + 256]
            position += len(chunk)
            if chunk:
                yield b"".join(chunk)

    app = FastAPI(lifespan=lifespan)

    @app.get("/v1/changes")
    async def changes() -> StreamingResponse:
        return StreamingResponse(stream(), media_type="text/event-stream")

    return app


if __name__ == "__main__":
    kind, bootstrap_servers, topic, partitions, port, *more = sys.argv[1:]
    app = (command_server if kind == "commands" else change_server)(bootstrap_servers, topic, int(partitions), *more)
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")
