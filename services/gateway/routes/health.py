"""How the platform is: what lags behind the log, which receivers fail, and which pools of numbers run low."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, with_config
from typing_extensions import TypedDict

from contracts.topics import EVENTS
from services.gateway.authentication.caller import Authenticated
from services.gateway.feed.feed import Feed
from services.gateway.problem_types import raises
from services.gateway.requests import feed_of, pool_of
from services.infrastructure.postgres import Pool
from services.invoker import metrics as invoker_metrics
from services.invoker.delivery_schemas import FailingSystem
from services.message_router import resource_list
from services.message_router.message_schemas import SchedulingResource

router = APIRouter(prefix="/v1", tags=["Health"])

_CHECKPOINTS = """
    SELECT consumer, partition, sequence, extract(epoch FROM now() - moved_at)::float AS seconds
    FROM switchboard.checkpoints WHERE topic = $1 AND consumer NOT LIKE '%/%' ORDER BY consumer, partition
"""


@with_config(use_attribute_docstrings=True)
class ConsumerLag(TypedDict):
    """How far a reader of the events is behind the log's end."""

    consumer: str
    """The reader, such as the read model of the settings, the invoker or the message router."""

    events: Annotated[int, Field(ge=0)]
    """Events that it has not applied, over all partitions."""

    seconds: Annotated[float, Field(ge=0)]
    """For how long the partition that is furthest behind has not moved; 0 if nothing is behind."""


@with_config(use_attribute_docstrings=True)
class Health(TypedDict):
    """The platform as it is now."""

    consumers: list[ConsumerLag]
    failing_systems: list[FailingSystem]
    """Business systems whose calls fail, those first that have failed for longest; at most 50."""

    deliveries: dict[str, int]
    """How many deliveries have not ended, by state."""

    scheduling_resources: list[SchedulingResource]


@router.get("/health", response_model=Health)
@raises("Unavailable")
async def platform_health(request: Request, _: Authenticated) -> dict[str, Any]:
    """Reports to the platform how far readers of events are behind, receivers that fail, and the pools of numbers."""
    return await health(request)


async def health(request: Request) -> dict[str, Any]:
    """Raises `Problem` while the broker is away."""
    pool, feed = pool_of(request), feed_of(request)
    return {
        "consumers": await _lags(pool, feed),
        "failing_systems": await invoker_metrics.failing_systems(pool),
        "deliveries": await invoker_metrics.unended_deliveries(pool),
        "scheduling_resources": await resource_list.list_resources(pool, request.app.state.now()),
    }


async def _lags(pool: Pool, feed: Feed) -> list[dict[str, Any]]:
    """Against what this gateway has read of the log, which is its end but for a moment."""
    found: dict[str, tuple[int, float]] = {}
    for row in await pool.fetch(_CHECKPOINTS, EVENTS.name):
        events, seconds = found.get(row["consumer"], (0, 0.0))
        position = feed.positions[row["partition"]] if row["partition"] < feed.partitions else None
        behind = max(0, (position.sequence or 0) - (row["sequence"] or 0)) if position is not None else 0
        found[row["consumer"]] = events + behind, max(seconds, row["seconds"] if behind else 0.0)
    return [
        {"consumer": consumer.removeprefix("switchboard."), "events": events, "seconds": round(seconds, 1)}
        for consumer, (events, seconds) in found.items()
    ]
