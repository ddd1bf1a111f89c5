"""Long answers are searched for secrets beside the calls, one at a time, and accounts take turns."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
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


async def test_an_account_with_many_long_answers_does_not_hold_up_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []
    everybody_waits = threading.Event()
    neighbour = replace(ENDPOINT, account="neighbour", api_request_url="https://shop.example/hook")

    async def exchange(destination: Any, *_: Any) -> tuple[Any, bytes]:
        if "shop.example" in destination.request_head:
            everybody_waits.set()
        return object(), b"x" * 60_000

    def answered(_: Any, __: Any, endpoint: Endpoint, ___: Any) -> None:
        assert everybody_waits.wait(20)
        searched.append(endpoint.account)

    monkeypatch.setattr(http_call, "_answered", answered)
    async with WebhookClient(Allowlist.parse(())) as client:
        monkeypatch.setattr(client, "_exchange_past_stale_connections", exchange)
        await asyncio.gather(*(client.post(endpoint, "id", b"{}") for endpoint in [*[ENDPOINT] * 16, neighbour]))

    assert searched.index("neighbour") <= 2
