"""Requests that wait for something to happen: each has a place, and ends when its credential does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from services.gateway.authentication.caller import Caller
from services.gateway.authentication.revocations import Revocations
from services.gateway.limits import Places
from services.gateway.problems import unauthenticated


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
