"""Refused credentials and denied operations, counted in memory and written to the access log once a minute.

So a flood of them costs a record per minute and source: a stranger cannot fill the log. What a gateway that dies has
counted of the last minute is lost.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import structlog

from contracts.access_log import LogOnFailed, OperationDenied
from contracts.envelope import Origin
from contracts.message import EventData
from services.gateway.authentication.access_log import Concerned, record
from services.gateway.authentication.actor import Actor
from services.gateway.authentication.api_keys import ApiKey, find_among
from services.gateway.client_network import network_of
from services.infrastructure.postgres import OUTAGES, Pool

log = structlog.stdlib.get_logger(__name__)

INTERVAL_S = 60.0
MAX_SOURCES = 1_000
"""Of failed log-ons in a minute. All further ones share one record, without an address."""
MAX_KEYS_PER_SOURCE = 16
"""Ids of keys that are told apart, as far as there are such keys."""
_OTHER_KEYS = ""

Means = Literal["api", "console"]
_Record = tuple[EventData, Concerned, Actor]


@dataclass(slots=True)
class _Source:
    """Failed log-ons from one network: the first one's origin, and how many named which key."""

    origin: Origin
    attempts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Denied:
    """``by`` and ``concerned`` are the first attempt's."""

    by: Actor
    concerned: Concerned
    attempts: int = 0


class Refusals:
    """Those of one gateway since they were last written."""

    def __init__(self) -> None:
        self._sources: dict[tuple[Means, str], _Source] = {}
        self._denied: dict[tuple[str | None, str], _Denied] = {}

    def log_on_failed(self, means: Means, key_id: str, origin: Origin) -> None:
        """``key_id`` is what the credential names; empty if it is no API key."""
        place = means, network_of(origin.sourceaddress)
        if place not in self._sources and len(self._sources) >= MAX_SOURCES:
            place, origin = (means, ""), Origin()
        attempts = self._sources.setdefault(place, _Source(origin)).attempts
        attempts[key_id if key_id in attempts or len(attempts) < MAX_KEYS_PER_SOURCE else _OTHER_KEYS] += 1

    def denied(self, operation: str, concerned: Concerned, by: Actor) -> None:
        self._denied.setdefault((by.subject, operation), _Denied(by, concerned)).attempts += 1

    async def run(self, pool: Pool) -> None:
        """Writes until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(INTERVAL_S)
                try:
                    await self.write(pool)
                except Exception:
                    log.exception("refusals were not written to the access log")
        finally:
            await self.write(pool)

    async def write(self, pool: Pool) -> None:
        """Writes a record for each source, key and operation. What the database does not take is logged and gone."""
        sources, self._sources = self._sources, {}
        denied, self._denied = self._denied, {}
        if not sources and not denied:
            return
        try:
            key_ids = {key_id for source in sources.values() for key_id in source.attempts}
            known = await find_among(pool, list(key_ids))
            async with pool.acquire() as connection, connection.transaction():
                for (means, _), source in sources.items():
                    for one in _failed(means, source, known):
                        await record(connection, *one)
                for (_, operation), one_denied in denied.items():
                    data = OperationDenied(operation=operation, attempts=one_denied.attempts)
                    await record(connection, data, one_denied.concerned, one_denied.by)
        except OUTAGES as error:
            log.warning(
                "refusals were not written to the access log",
                sources=len(sources),
                denied=len(denied),
                reason=type(error).__name__,
            )


def _failed(means: Means, source: _Source, known: dict[str, ApiKey]) -> Iterator[_Record]:
    """A record for each key that there is, and one for all other attempts."""
    by = Actor(source.origin)
    others = sum(count for key_id, count in source.attempts.items() if key_id not in known)
    if others:
        yield LogOnFailed(means=means, attempts=others), Concerned(), by
    for key_id, count in source.attempts.items():
        if key_id in known:
            data = LogOnFailed(means=means, key_id=key_id, attempts=count)
            yield data, Concerned.of(known[key_id].scope), by
