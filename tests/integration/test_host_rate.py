"""Two accounts with one receiver's host, through the dispatcher: no more calls than its rate, and none is lost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from services.domain.url_policy import Allowlist
from services.infrastructure.postgres import Pool
from services.infrastructure.vault import KeyRing, SignatureAddress
from services.invoker.delivery.dispatcher import Dispatcher
from services.invoker.delivery.http_call import WebhookClient
from services.invoker.limits import Limits
from services.invoker.results.recorder import Recorder
from tests.queue_database import add, queue_pool, states
from tests.raw_receiver import server

RATE = 20
LIMITS = Limits(calls_per_host=RATE)
KEYRING = KeyRing.parse(KeyRing.make())


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with queue_pool(database_url) as made:
        yield made


async def _with_signature(pool: Pool, system: str, url: str) -> None:
    address = SignatureAddress("ch", system, "k1")
    await pool.execute("INSERT INTO invoker.signatures VALUES ('ch', $1, 'k1', 1)", system)
    encrypted = KEYRING.encrypt(b"s" * 32, address)
    await pool.execute("INSERT INTO invoker.secrets VALUES ($1, $2)", address.record_key().decode(), encrypted)
    await pool.execute("UPDATE invoker.business_systems SET api_request_url = $2 WHERE system = $1", system, url)


async def test_a_host_gets_its_rate_whatever_the_accounts_and_every_call_is_made(pool: Pool) -> None:
    calls: list[tuple[float, str]] = []

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append((time.monotonic(), (await reader.readexactly(2)).decode()))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    ids = [*await add(pool, "crm", 60), *await add(pool, "erp", 30)]
    await pool.execute("UPDATE invoker.deliveries SET account = 'bolt' WHERE system = 'erp'")
    async with server(count) as port, WebhookClient(Allowlist.parse([f"127.0.0.1:{port}"])) as client:
        for system in ("crm", "erp"):
            await _with_signature(pool, system, f"http://127.0.0.1:{port}/{system}")
        recorder = Recorder(pool, LIMITS, lambda _: None, lambda _: None)
        dispatcher = Dispatcher(pool, client, KEYRING, recorder, LIMITS)
        tasks = [asyncio.create_task(recorder.run()), asyncio.create_task(dispatcher.run())]
        began = time.monotonic()
        try:
            while set((await states(pool)).values()) != {"delivered"}:
                assert time.monotonic() - began < 40
                await asyncio.sleep(0.05)
        finally:
            for task in reversed(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    times = [at for at, _ in calls]
    assert len(calls) == len(ids) == 90
    assert times[-1] - times[0] >= (90 - RATE) / RATE - 0.5  # the burst at once, the rest at the rate
    attempts = Counter(row["attempts"] for row in await pool.fetch("SELECT attempts FROM invoker.deliveries"))
    assert attempts == {1: 90}, "to be postponed is no attempt"
