"""The circuits in the database, updated in the transaction that records the calls' results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from services.infrastructure.postgres import Connection
from services.invoker.limits import Limits
from services.invoker.outbox.notifications import disable_command, disable_command_id
from services.invoker.outbox.records import OutboxRecord
from services.invoker.queue.delivery import SystemKey
from services.invoker.results.attempt import DeliveryResult
from services.invoker.results.circuit import CLOSED, Circuit, circuit_after, disable_reason
from services.invoker.results.retry_policy import Delivered

_FIELDS = ("failures", "openings", "open_until", "probing", "failing_since", "disable_asked_at")
_INSERT = """
    INSERT INTO invoker.circuits (channel, system) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING
"""
_SELECT = """
    SELECT c.* FROM invoker.circuits c JOIN unnest($1::text[], $2::text[]) AS w(channel, system)
        ON c.channel = w.channel AND c.system = w.system ORDER BY c.channel, c.system FOR UPDATE OF c
"""
_UPDATE = """
    UPDATE invoker.circuits SET failures = $3, openings = $4, open_until = $5, probing = $6, failing_since = $7,
        disable_asked_at = $8 WHERE channel = $1 AND system = $2
"""
_DELETE = "DELETE FROM invoker.circuits WHERE channel = $1 AND system = $2"


async def update_circuits(
    connection: Connection, called: Sequence[DeliveryResult], limits: Limits
) -> list[OutboxRecord]:
    """Each system's circuit after its calls, in their order; returns the commands that disable systems.

    A failed test call does not count: it may carry a signature that the receiver does not know yet.
    """
    by_system: dict[SystemKey, list[DeliveryResult]] = defaultdict(list)
    for result in called:
        if result.delivery.test and not isinstance(result.next_step, Delivered):
            continue
        by_system[result.delivery.system_key].append(result)
    circuits = await _lock_circuits(connection, by_system)
    now = datetime.now(UTC)
    commands: list[OutboxRecord] = []
    for key, results in sorted(by_system.items()):
        before = circuit = circuits.get(key, CLOSED)
        for result in results:
            if result.attempt is None:
                continue
            circuit = circuit_after(circuit, result.attempt.result, now, limits)
            reason = disable_reason(circuit, result.attempt.result, now, limits)
            if reason is not None:
                circuit = replace(circuit, disable_asked_at=now)
                commands.append(_disable_command(result, reason))
        if circuit != before:
            await _store(connection, key, circuit)
    return commands


def _disable_command(result: DeliveryResult, reason: str) -> OutboxRecord:
    delivery = result.delivery
    command_id = disable_command_id(delivery.id, delivery.attempts)
    return disable_command(delivery.requester, delivery.system, command_id, reason)


async def _lock_circuits(
    connection: Connection, by_system: dict[SystemKey, list[DeliveryResult]]
) -> dict[SystemKey, Circuit]:
    """Locks the circuits until the transaction's end; inserts one for a system that fails for the first time."""
    failing = sorted(
        key
        for key, results in by_system.items()
        if any(result.attempt is not None and not isinstance(result.next_step, Delivered) for result in results)
    )
    if failing:
        await connection.execute(_INSERT, [channel for channel, _ in failing], [system for _, system in failing])
    rows = await connection.fetch(_SELECT, [channel for channel, _ in by_system], [system for _, system in by_system])
    return {(row["channel"], row["system"]): Circuit(**{name: row[name] for name in _FIELDS}) for row in rows}


async def _store(connection: Connection, key: SystemKey, circuit: Circuit) -> None:
    if circuit == CLOSED:
        await connection.execute(_DELETE, *key)
    else:
        await connection.execute(_UPDATE, *key, *(getattr(circuit, name) for name in _FIELDS))
