"""How far a read model has read the events: with the deployment, that makes the cursor of what it answers."""

from __future__ import annotations

from contracts.changes import Place
from contracts.topics import EVENTS
from projections.settings import Connection

_READ = "SELECT partition, next_offset FROM switchboard.checkpoints WHERE consumer = $1 AND topic = $2"


async def places_of(connection: Connection, consumer: str) -> dict[int, Place]:
    """In the snapshot of the connection's transaction; a partition that is not there has not been read."""
    rows = await connection.fetch(_READ, consumer, EVENTS.name)
    return {row["partition"]: Place(row["next_offset"], None) for row in rows}
