"""What goes on for long ends with its credential."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from services.gateway.authentication.principal import Principal
from services.gateway.authentication.revocations import Revocations
from services.gateway.authentication.roles import ALL_ROLES, PLATFORM
from services.infrastructure.postgres import Pool
from tests.patience import PATIENCE_S


def until(expires_at: float) -> Principal:
    return Principal("https://login.example#alice", None, ALL_ROLES, PLATFORM, expires_at=expires_at)


async def test_it_ends_when_a_token_expires() -> None:
    ended = asyncio.Event()
    with Revocations(cast("Pool", None)).watch(until(time.time() + 0.05), ended.set):
        await asyncio.sleep(0.01)
        assert not ended.is_set()
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()


async def test_what_has_ended_before_its_token_is_not_told() -> None:
    told: list[None] = []
    with Revocations(cast("Pool", None)).watch(until(time.time() + 0.02), lambda: told.append(None)):
        pass
    with Revocations(cast("Pool", None)).watch(until(2.0**40), lambda: told.append(None)):
        await asyncio.sleep(0.05)
    assert told == []
