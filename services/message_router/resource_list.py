"""The scheduling resources as they stand, for the gateway and the command line."""

from __future__ import annotations

from typing import Any, Literal

from contracts.message import rfc3339
from services.infrastructure.postgres import Pool

ResourceState = Literal["available", "exhausted", "stale", "withdrawn"]

_SELECT = 'SELECT * FROM message_router.resources ORDER BY country, resource COLLATE "C"'
_BEST_FIRST: tuple[ResourceState, ...] = ("available", "exhausted", "stale")


async def list_resources(pool: Pool, now: int) -> list[dict[str, Any]]:
    """All resources by country; ``available`` are the units that are left after what was reserved since the report.
    A time before 1970 is shown as 1970."""
    return [
        {
            "resource": row["resource"],
            "country": row["country"],
            "sender": row["sender"],
            "units": row["units"],
            "available": max(0, row["units"] - row["taken"]),
            "as_of": rfc3339(row["as_of"]),
            "valid_until": rfc3339(row["valid_until"]),
            "state": _state(row, now),
        }
        for row in await pool.fetch(_SELECT)
    ]


async def states_by_country(pool: Pool, now: int) -> list[dict[str, str]]:
    """Whether each country has a unit, and if not why: what an account may know of the platform's pools."""
    found: dict[str, set[ResourceState]] = {}
    for one in await list_resources(pool, now):
        found.setdefault(one["country"], set()).add(one["state"])
    return [
        {"country": country, "state": next(state for state in _BEST_FIRST if state in states)}
        for country, states in found.items()
        if states != {"withdrawn"}
    ]


def _state(row: Any, now: int) -> ResourceState:
    if row["withdrawn"]:
        return "withdrawn"
    if now > row["valid_until"]:
        return "stale"
    return "available" if row["units"] > row["taken"] else "exhausted"
