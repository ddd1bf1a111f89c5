"""Reading the delivery log: what the gateway and the command line show of signed calls."""

from __future__ import annotations

import json
from typing import Any

from services.infrastructure.postgres import Pool

_DELIVERIES = """
    SELECT d.*, coalesce((
        SELECT json_agg(json_build_object(
            'number', a.number, 'started_at', a.started_at, 'duration_ms', a.duration_ms, 'key_ids', a.key_ids,
            'status', a.status, 'stage', a.stage, 'error', a.error, 'answer_bytes', octet_length(a.answer)
        ) ORDER BY a.number) FROM invoker.attempts a WHERE a.delivery = d.id), '[]') AS attempt_log
    FROM invoker.deliveries d
"""
_SHOWN = (
    *("id", "account", "channel", "request_id", "system", "code", "template"),
    *("state", "attempts", "key_id", "reason"),
)
_TIMES = ("created_at", "due_at", "expires_at", "ended_at")


async def find(pool: Pool, account: str, channel: str, request_id: str) -> dict[str, Any] | None:
    """The delivery that a request became; None where the invoker has not seen it yet, or refused it unread."""
    row = await pool.fetchrow(
        f"{_DELIVERIES} WHERE account = $1 AND channel = $2 AND request_id = $3", account, channel, request_id
    )
    return None if row is None else _shown(row)


async def of_channel(pool: Pool, channel: str, limit: int) -> list[dict[str, Any]]:
    """The channel's newest deliveries first."""
    newest = "WHERE channel = $1 ORDER BY created_at DESC, id DESC LIMIT $2"
    rows = await pool.fetch(f"{_DELIVERIES} {newest}", channel, limit)
    return [_shown(row) for row in rows]


def _shown(row: Any) -> dict[str, Any]:
    times = {name: None if row[name] is None else row[name].isoformat(timespec="milliseconds") for name in _TIMES}
    return {name: row[name] for name in _SHOWN} | times | {"attempt_log": json.loads(row["attempt_log"])}
