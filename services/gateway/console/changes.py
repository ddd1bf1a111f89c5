"""Who changed what since a version: for a form that somebody else has overtaken."""

from __future__ import annotations

from typing import Any

from contracts.resources import on_same_path
from projections.history import queries as history_queries
from services.gateway.console.console_request import ConsoleRequest
from services.gateway.requests import pool_of

_LOOKED_AT = 50


async def changes_since(console: ConsoleRequest, channel: str, resource: str, version: int) -> list[dict[str, Any]]:
    """Returns the newest entries of the history of the resource after the version, the newest first."""
    sought = history_queries.Sought(console.caller.account, channel)
    async with pool_of(console.request).acquire() as connection:
        entries, _ = await history_queries.find(connection, sought, _LOOKED_AT)
    return [
        entry
        for entry in entries
        if entry.get("version", 0) > version
        and "rejection" not in entry
        and on_same_path(str(entry.get("resource", "")), resource)
    ]
