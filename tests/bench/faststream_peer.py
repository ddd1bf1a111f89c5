"""A peer: a FastStream handler as most people would write it, one message at a time, its state and events in Postgres.

Each command is a transaction: the channel's row is locked, the event inserted, the row updated; then the outcome is
published, and then the offset committed. A crash between these answers twice, or never; nothing here cares.

    python -m tests.bench.faststream_peer bootstrap-servers dsn prefix
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import asyncpg
import uvloop
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from contracts.ids import new_id
from tests.bench.child_process import report_ready

_TABLES = """
    CREATE TABLE IF NOT EXISTS peer_channels (channel text PRIMARY KEY, version int NOT NULL, state jsonb NOT NULL);
    CREATE TABLE IF NOT EXISTS peer_events (
        channel text, version int, id text NOT NULL, type text NOT NULL, data jsonb NOT NULL,
        PRIMARY KEY (channel, version))
"""
_READ = "SELECT version, state FROM peer_channels WHERE channel = $1 FOR UPDATE"
_APPEND = "INSERT INTO peer_events VALUES ($1, $2, $3, $4, $5)"
_KEEP = """
    INSERT INTO peer_channels VALUES ($1, $2, $3)
    ON CONFLICT (channel) DO UPDATE SET version = excluded.version, state = excluded.state
"""


async def main(bootstrap_servers: str, dsn: str, prefix: str) -> None:
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=4)
    await pool.execute(_TABLES)
    broker = KafkaBroker(bootstrap_servers, logger=None)
    publisher = broker.publisher(f"{prefix}.outcomes")

    async def decide(value: bytes) -> None:
        command: dict[str, Any] = json.loads(value)
        channel, event_id = command["subject"], new_id()
        async with pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_READ, channel)
            version, state = (0, {}) if row is None else (row["version"], json.loads(row["state"]))
            state |= command["data"]
            await connection.execute(
                _APPEND, channel, version + 1, event_id, command["type"], json.dumps(command["data"])
            )
            await connection.execute(_KEEP, channel, version + 1, json.dumps(state))
        outcome = {"causationid": command["id"], "version": version + 1, "events": [event_id]}
        await publisher.publish(outcome, key=channel.encode())

    broker.subscriber(
        f"{prefix}.commands",
        group_id=prefix,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )(decide)
    await broker.start()
    report_ready()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:4]))
