"""Ends what goes on for long, such as a stream, within a second of the end of its credential or session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TypeVar

from services.gateway.authentication.api_keys import invalid_among
from services.gateway.authentication.principal import Principal
from services.gateway.authentication.sessions import Session, ended_among
from services.infrastructure.postgres import OUTAGES, Pool

CHECK_INTERVAL_S = 0.5


Id = TypeVar("Id", str, bytes)


class Revocations:
    """Asks the database twice a second, for all watched keys and sessions at once. While it is away, nothing ends."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._of_keys: dict[str, set[Callable[[], None]]] = {}
        self._of_sessions: dict[bytes, set[Callable[[], None]]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def watch(
        self, principal: Principal, on_revoked: Callable[[], None], session: Session | None = None
    ) -> Iterator[None]:
        """Calls ``on_revoked`` once the principal's key or token, or the session, is not valid any more."""
        with ExitStack() as watched:
            if principal.expires_at is not None:
                expiry = asyncio.get_running_loop().call_later(principal.expires_at - time.time(), on_revoked)
                watched.callback(expiry.cancel)
            if principal.key_id is not None:
                watched.enter_context(self._watched(self._of_keys, principal.key_id, on_revoked))
            if session is not None:
                watched.enter_context(self._watched(self._of_sessions, session.digest, on_revoked))
            yield

    @contextmanager
    def _watched(
        self, watchers: dict[Id, set[Callable[[], None]]], name: Id, on_revoked: Callable[[], None]
    ) -> Iterator[None]:
        watchers.setdefault(name, set()).add(on_revoked)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            watchers[name].discard(on_revoked)
            if not watchers[name]:
                del watchers[name]

    async def _run(self) -> None:
        while self._of_keys or self._of_sessions:
            await asyncio.sleep(CHECK_INTERVAL_S)  # first: the request was authenticated a moment ago
            with suppress(*OUTAGES):
                await self._check(self._of_keys, invalid_among)
                await self._check(self._of_sessions, ended_among)

    async def _check(
        self,
        watchers: dict[Id, set[Callable[[], None]]],
        ended_among: Callable[[Pool, list[Id]], Awaitable[list[Id]]],
    ) -> None:
        for name in await ended_among(self._pool, list(watchers)) if watchers else ():
            for on_revoked in list(watchers.get(name, ())):
                on_revoked()
