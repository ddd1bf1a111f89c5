"""The limit of the gateway: an HTTP endpoint that puts its body onto Kafka and answers when its outcome comes back.

python -m tests.bench.bare_gateway bootstrap-servers prefix partitions port
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from fastapi import FastAPI, Request, Response

from tests.bench.parent import say_ready


def application(bootstrap_servers: str, prefix: str, partitions: int) -> FastAPI:
    waiting: dict[bytes, asyncio.Future[bytes]] = {}
    producer: Any = None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        nonlocal producer
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True)
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, isolation_level="read_committed")
        await producer.start()
        await consumer.start()
        sources = [TopicPartition(f"{prefix}.outcomes", partition) for partition in range(partitions)]
        consumer.assign(sources)
        await consumer.seek_to_end(*sources)

        async def read() -> None:
            while True:
                for records in (await consumer.getmany(timeout_ms=1_000)).values():
                    for record in records:
                        future = waiting.pop(record.key, None)
                        if future is not None:
                            future.set_result(record.value)

        reading = asyncio.create_task(read())
        say_ready()
        yield
        reading.cancel()
        await consumer.stop()
        await producer.stop()

    app = FastAPI(lifespan=lifespan)

    @app.put("/v1/channels/{channel}/sms")
    async def put(channel: str, request: Request) -> Response:
        key = channel.encode()
        answer = waiting[key] = asyncio.get_running_loop().create_future()
        await producer.send(f"{prefix}.commands", await request.body(), key=key)
        return Response(await answer, media_type="application/json")

    return app


if __name__ == "__main__":
    uvicorn.run(
        application(sys.argv[1], sys.argv[2], int(sys.argv[3])),
        host="127.0.0.1",
        port=int(sys.argv[4]),
        log_level="warning",
    )
