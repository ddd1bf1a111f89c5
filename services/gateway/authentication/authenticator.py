"""Checks the tokens of API keys."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

from services.gateway.authentication.api_keys import ApiKey, find_valid, key_id_of, note_use
from services.infrastructure.postgres import Pool

_HOUR = timedelta(hours=1)
_Found = tuple[bytes, ApiKey] | None


class Authenticator:
    """Checks tokens. Those that come while a query runs are checked together by the next one.

    So however many requests come at once, each waits for two queries at most, and the pool keeps its connections.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: dict[str, asyncio.Future[_Found]] = {}
        """Key id -> the future of its key. A request must not join a running query: its key may be revoked since."""
        self._task: asyncio.Task[None] | None = None
        self._noting: set[str] = set()

    async def authenticate(self, token: str, address: str | None = None) -> ApiKey | None:
        """Returns the token's key; None if it is unknown, or its key is not valid now and from the client's address.

        The first use in an hour is noted.
        """
        key_id = key_id_of(token)
        found = await asyncio.shield(self._found(key_id)) if key_id else None
        if found is None:
            return None
        token_sha256, api_key = found
        matches = hmac.compare_digest(token_sha256, hashlib.sha256(token.encode()).digest())
        if not matches or not api_key.allows(address):
            return None
        await self._note_use(api_key)
        return api_key

    async def _note_use(self, api_key: ApiKey) -> None:
        used_at, key_id = api_key.last_used_at, api_key.key_id
        if (used_at is None or used_at + _HOUR <= datetime.now(UTC)) and key_id not in self._noting:
            self._noting.add(key_id)  # of the requests that come together, one writes
            try:
                await note_use(self._pool, key_id)
            finally:
                self._noting.discard(key_id)

    def _found(self, key_id: str) -> asyncio.Future[_Found]:
        found = self._waiting.get(key_id)
        if found is None:
            found = self._waiting[key_id] = asyncio.get_running_loop().create_future()
            found.add_done_callback(asyncio.Future.exception)  # the requests that wait may all be gone
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return found

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                try:
                    valid = await find_valid(self._pool, list(batch))
                except Exception as error:  # noqa: BLE001 -- raised by each request of the batch
                    for found in batch.values():
                        found.set_exception(error)
                else:
                    for key_id, found in batch.items():
                        found.set_result(valid.get(key_id))
        finally:
            self._task = None


async def authenticate(pool: Pool, token: str, address: str | None = None) -> ApiKey | None:
    """As `Authenticator.authenticate`, for one token."""
    return await Authenticator(pool).authenticate(token, address)
