"""What this gateway's requests wait for in the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from projections.history import queries as history_queries
from projections.settings import queries as settings_queries
from services.infrastructure.postgres import Pool
from services.infrastructure.shared_poll import SharedPoll
from services.invoker import delivery_log
from services.invoker.queue import listeners
from services.message_router import settings_replica

AccountChannel = tuple[str | None, str]
"""An account, None for any, and a channel."""
VersionPoll = SharedPoll[tuple[AccountChannel, int], int]
"""A channel's version, of which the key has the least that is waited for."""

_VERSION_INTERVAL_S = 0.02
_DELIVERY_INTERVAL_S = 0.05
_LISTENER_INTERVAL_S = 0.2


class SharedPolls:
    """One for each question, so that a gateway asks each once for all requests that wait for its answer."""

    def __init__(self, pool: Pool) -> None:
        self.settings = _version_poll(partial(settings_queries.versions, pool))
        self.history = _version_poll(partial(history_queries.versions, pool))
        self.invoker_settings = _version_poll(partial(delivery_log.versions, pool))
        self.router_settings = _version_poll(partial(settings_replica.versions, pool))
        self.deliveries = SharedPoll(partial(delivery_log.ended_among, pool), _DELIVERY_INTERVAL_S)
        self.listener_calls = SharedPoll(partial(listeners.offered_among, pool), _LISTENER_INTERVAL_S)


def _version_poll(versions: Callable[[list[AccountChannel]], Awaitable[Mapping[AccountChannel, int]]]) -> VersionPoll:
    async def find(keys: list[tuple[AccountChannel, int]]) -> dict[tuple[AccountChannel, int], int]:
        found = await versions([channel for channel, _ in keys])
        return {(channel, least): found[channel] for channel, least in keys if found.get(channel, 0) >= least}

    return SharedPoll(find, _VERSION_INTERVAL_S)
