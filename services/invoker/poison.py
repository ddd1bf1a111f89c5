"""What requesters and metrics are told of requests whose handling raises."""

from __future__ import annotations

from services.infrastructure.postgres import Connection

INTERNAL_ERROR = "It could not be handled because of a fault on our side; send it again later, or ask the operator."

POISON_COUNTER = "poison"
_COUNT = """
    INSERT INTO invoker.counters AS t VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET total = t.total + 1
"""


async def count_poison(connection: Connection) -> None:
    """Counts a request that was set aside, for metrics."""
    await connection.execute(_COUNT, POISON_COUNTER)
