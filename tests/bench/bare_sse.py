"""The limit of the change feed: an endpoint that sends whatever comes onto a topic to everybody, as server-sent events.

python -m tests.bench.bare_sse bootstrap-servers topic partitions port
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from aiokafka import AIOKafkaConsumer, TopicPartition
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from tests.bench.parent import say_ready


def application(bootstrap_servers: str, topic: str, partitions: int) -> FastAPI:
    frames: list[bytes] = []
    news = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        nonlocal news
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, isolation_level="read_committed")
        await consumer.start()
        sources = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(sources)
        await consumer.seek_to_end(*sources)

        async def read() -> None:
            nonlocal news
            while True:
                for records in (await consumer.getmany(timeout_ms=1_000)).values():
                    frames.extend(b"data: %b\n\n" % record.value for record in records)
                news.set()
                news = asyncio.Event()

        reading = asyncio.create_task(read())
        say_ready()
        yield
        reading.cancel()
        await consumer.stop()

    async def stream() -> AsyncIterator[bytes]:
        at = len(frames)
        yield b": from here on\n\n"
        while True:
            if at == len(frames):
                await news.wait()
            chunk = frames[at : at + 256]
            at += len(chunk)
            if chunk:
                yield b"".join(chunk)

    app = FastAPI(lifespan=lifespan)

    @app.get("/v1/changes")
    async def changes() -> StreamingResponse:
        return StreamingResponse(stream(), media_type="text/event-stream")

    return app


if __name__ == "__main__":
    uvicorn.run(
        application(sys.argv[1], sys.argv[2], int(sys.argv[3])),
        host="127.0.0.1",
        port=int(sys.argv[4]),
        log_level="warning",
    )
