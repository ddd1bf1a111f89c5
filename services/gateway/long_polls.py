"""Requests that wait for something to happen: each has a place, and ends when its credential does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import Request

from services.gateway.authentication.caller import Caller
from services.gateway.authentication.revocations import Revocations
from services.gateway.limits import Places
from services.gateway.problems import unauthenticated
from services.gateway.requests import turn_of
from services.gateway.shared_polls import SharedPolls
from services.infrastructure.shared_poll import Found, Key, SharedPoll


@asynccontextmanager
async def long_poll(request: Request, caller: Caller) -> AsyncIterator[None]:
    """Holds a place. Raises `Problem` if there is none left, or once the caller's credential has ended."""
    places: Places = request.app.state.long_polls
    revocations: Revocations = request.app.state.revocations
    loop = asyncio.get_running_loop()
    with places.taken(caller.account):
        try:
            async with asyncio.timeout(None) as until_revoked:

                def end() -> None:
                    if not until_revoked.expired():
                        until_revoked.reschedule(loop.time())

                with revocations.watch(caller.principal, end):
                    yield
        except TimeoutError:
            if until_revoked.expired():
                raise unauthenticated() from None
            raise


def polls_of(request: Request) -> SharedPolls:
    polls: SharedPolls = request.app.state.polls
    return polls


async def wait_for(request: Request, poll: SharedPoll[Key, Found], key: Key, timeout_s: float) -> bool:
    """Waits without the request's turn. Returns whether the key was found in time. Raises `QueueFull`."""
    async with turn_of(request).paused():
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await poll.wait(key)
                return True
    return False
