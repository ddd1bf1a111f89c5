"""The circuits of systems as they are kept: turned by what came of calls, in the transaction that records it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from services.infrastructure.postgres import Connection
from services.invoker.circuit import CLOSED, Circuit, after, why_disable
from services.invoker.endpoints import SystemKey
from services.invoker.notifications import Note, disable_note
from services.invoker.outcomes import Delivered
from services.invoker.pace import Pace
from services.invoker.results import Result

_FIELDS = ("failures", "openings", "open_until", "probing", "failing_since", "disable_asked_at")


async def turn_circuits(connection: Connection, called: Sequence[Result], pace: Pace) -> list[Note]:
    """Each system's circuit after its calls, in order; returns the commands that disable what deserves it.

    A test call that failed is not held against its system: it may carry a signature that nobody knows yet.
    """
    by_system: dict[SystemKey, list[Result]] = defaultdict(list)
    for result in called:
        if result.row["test"] and not isinstance(result.next, Delivered):
            continue
        by_system[result.row["channel"], result.row["system"]].append(result)
    circuits = await _circuits(connection, by_system)
    now, notes = datetime.now(UTC), []
    for key, results in sorted(by_system.items()):
        before = circuit = circuits.get(key, CLOSED)
        for result in results:
            if result.attempt is None:
                continue
            circuit = after(circuit, result.attempt.ended, now, pace)
            reason = why_disable(circuit, result.attempt.ended, now, pace)
            if reason is not None:
                circuit = replace(circuit, disable_asked_at=now)
                notes.append(disable_note(result.row, reason))
        if circuit != before:
            await _keep_circuit(connection, key, circuit)
    return notes


async def _circuits(connection: Connection, by_system: dict[SystemKey, list[Result]]) -> dict[SystemKey, Circuit]:
    """Locked until the transaction's end; a system that fails for the first time gets its row here."""
    failing = sorted(
        key
        for key, results in by_system.items()
        if any(one.attempt is not None and not isinstance(one.next, Delivered) for one in results)
    )
    if failing:
        await connection.execute(
            "INSERT INTO invoker.circuits (channel, system) SELECT * FROM unnest($1::text[], $2::text[]) "
            "ON CONFLICT DO NOTHING",
            [channel for channel, _ in failing],
            [system for _, system in failing],
        )
    rows = await connection.fetch(
        "SELECT c.* FROM invoker.circuits c JOIN unnest($1::text[], $2::text[]) AS w(channel, system) "
        "ON c.channel = w.channel AND c.system = w.system ORDER BY c.channel, c.system FOR UPDATE OF c",
        [channel for channel, _ in by_system],
        [system for _, system in by_system],
    )
    return {(row["channel"], row["system"]): Circuit(**{name: row[name] for name in _FIELDS}) for row in rows}


async def _keep_circuit(connection: Connection, key: SystemKey, circuit: Circuit) -> None:
    if circuit == CLOSED:
        await connection.execute("DELETE FROM invoker.circuits WHERE channel = $1 AND system = $2", *key)
    else:
        await connection.execute(
            "UPDATE invoker.circuits SET failures = $3, openings = $4, open_until = $5, probing = $6, "
            "failing_since = $7, disable_asked_at = $8 WHERE channel = $1 AND system = $2",
            *key,
            *(getattr(circuit, name) for name in _FIELDS),
        )
