"""Requests that wait for the database: a gateway asks once for all of them, however many there are."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from services.gateway import reads
from services.gateway.routes import invocations
from tests.counting_connection import CountingConnection
from tests.customer import ACCOUNT, CODE, Customer
from tests.gateways import gateway
from tests.installation import Answer, Installation
from tests.receivers import Receiver

_WAIT_S = 2
_PARKED = {"system": "crm", "code": CODE}
_MESSAGE = {"recipient": "+6591234567", "category": "marketing"}


async def test_no_query_is_made_again_and_again_for_each_who_waits(
    installation: Installation, shop: Customer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of a disabled system do not end, and these versions do not come: all of them wait for the whole time."""
    monkeypatch.setattr(reads, "READ_MODEL_TIMEOUT_S", _WAIT_S)
    monkeypatch.setattr(invocations, "TEST_CALL_TIMEOUT_S", _WAIT_S)
    await shop.open("crm", receiver.url("never"))
    await shop.send("DisableBusinessSystem", {"system": "crm"})
    channel, waiting = f"channels/{shop.channel}", 20
    asked: list[tuple[str, str, Any, int]] = [
        ("POST", f"{channel}/invocations?wait={_WAIT_S}", _PARKED, 202),
        ("PUT", f"{channel}/listeners/laptop?wait={_WAIT_S}", {}, 200),
        ("GET", f"{channel}/settings?min_version=99", None, 504),
        ("POST", f"{channel}/message-decisions?dry_run=true&min_version=99", _MESSAGE, 504),
        ("POST", f"{channel}/message-decisions?dry_run=true", _MESSAGE | {"settings_version": 99}, 504),
    ]
    pool = await asyncpg.create_pool(
        installation.settings.database_url, min_size=1, max_size=4, connection_class=CountingConnection
    )
    async with gateway(installation, ACCOUNT, pool=pool) as (api, _):
        CountingConnection.statements.clear()

        async def ask(method: str, path: str, body: Any, status: int) -> None:
            answer: Answer = await api(method, path, body)
            assert answer.status == status, (path, answer.body)

        await asyncio.gather(*(ask(*one) for one in asked for _ in range(waiting)))
        [(statement, times)] = CountingConnection.statements.most_common(1)

    polls_each_20_ms, of_each_request = _WAIT_S * 50, 2
    assert times <= polls_each_20_ms + of_each_request * waiting * len(asked), statement
