"""An append whose time is over does not wait for batches that nobody answers any more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from services.infrastructure.transactions import OutgoingRecord, TransactionalProducer


class _SilentProducer:
    """One whose sender has ended without a word: no batch is answered, and the second finds no room."""

    def __init__(self) -> None:
        self.sends: list[asyncio.Future[Any]] = []

    def create_batch(self) -> Any:
        return SimpleNamespace(append=lambda **_: object())

    async def send_batch(self, *_: object, **__: object) -> asyncio.Future[Any]:
        if self.sends:
            await asyncio.Event().wait()
        self.sends.append(asyncio.get_running_loop().create_future())
        return self.sends[-1]


async def test_an_append_ends_with_its_time() -> None:
    producer, silent = TransactionalProducer.__new__(TransactionalProducer), _SilentProducer()
    producer._producer = silent
    records = [OutgoingRecord("events", partition, b"k", b"v") for partition in range(2)]

    async def append() -> None:
        async with asyncio.timeout(0.01):
            await producer.append(records, 0)

    appending = asyncio.create_task(append())
    await asyncio.wait([appending], timeout=10)

    assert appending.done(), "it waits for ever"
    with pytest.raises(TimeoutError):
        await appending
    assert [send.cancelled() for send in silent.sends] == [True]
