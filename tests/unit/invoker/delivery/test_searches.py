"""Long answers are searched for secrets beside the calls, one at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from services.domain.url_policy import Allowlist
from services.invoker.delivery import http_call
from services.invoker.delivery.http_call import WebhookClient
from services.invoker.settings_replica.endpoint import Endpoint

ENDPOINT = Endpoint("acme", "https://crm.example/hook", "standard-webhooks", disabled=False, signatures=())


@pytest.mark.parametrize("size", [10, 60_000])
async def test_searches_take_one_thread_at_most(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    threads: set[str] = set()

    async def exchange(*_: Any) -> tuple[Any, bytes]:
        return object(), b"x" * size

    def answered(*_: Any) -> str:
        threads.add(threading.current_thread().name)
        time.sleep(0.01)  # as long as a search takes, or another thread would not be needed
        return "answered"

    monkeypatch.setattr(http_call, "_answered", answered)
    async with WebhookClient(Allowlist.parse(())) as client:
        monkeypatch.setattr(client, "_exchange_past_stale_connections", exchange)
        results: list[Any] = await asyncio.gather(*(client.post(ENDPOINT, "id", b"{}") for _ in range(16)))

    assert results == ["answered"] * 16
    assert len(threads) == 1
    assert (threads == {threading.main_thread().name}) == (size == 10)
