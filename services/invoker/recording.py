"""What came of claimed deliveries, many in one transaction: state, attempt, circuit, outcome; the lease fences all."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, assert_never

from contracts.invocation import IntentInvoked, InvocationFailed
from services.domain.signing import fingerprint
from services.infrastructure.postgres import OUTAGES, Connection, Pool
from services.invoker import queue
from services.invoker.circuit import CLOSED, Circuit, after, why_disable
from services.invoker.endpoints import Endpoint
from services.invoker.notifications import Asked, Note, disable_note, outcome_note, tell
from services.invoker.outcomes import Answered, Delivered, Failed, GaveUp, Next, Parked, PutBack, RetryAt
from services.invoker.pace import Pace

log = logging.getLogger(__name__)

_AT_ONCE = 256
_GATHER_S = 0.005
"""What ends meanwhile is recorded in the same transaction."""

_END = """
    UPDATE invoker.deliveries d SET
        state = r.state, due_at = coalesce(r.due_at, d.due_at),
        reason = CASE WHEN r.state = 'due' THEN d.reason ELSE r.reason END,
        key_id = coalesce(r.key_id, d.key_id), attempts = d.attempts - r.uncounted, excused = d.excused + r.excused,
        lease = NULL, leased_until = NULL,
        ended_at = CASE WHEN r.state IN ('delivered', 'dead') THEN now() END
    FROM unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::int[], $8::int[])
        AS r(id, lease, state, due_at, reason, key_id, uncounted, excused)
    WHERE d.id = r.id AND d.lease = r.lease RETURNING d.id
"""
_ATTEMPTS = """
    INSERT INTO invoker.attempts
        (delivery, number, started_at, duration_ms, key_ids, status, stage, error, answer, accepted_key_id)
    SELECT delivery, number, started_at, duration_ms, string_to_array(key_ids, ' '), status, stage, error, answer, key
    FROM unnest($1::text[], $2::int[], $3::timestamptz[], $4::int[], $5::text[], $6::int[], $7::text[], $8::text[],
        $9::bytea[], $10::text[])
        AS a(delivery, number, started_at, duration_ms, key_ids, status, stage, error, answer, key)
    ON CONFLICT DO NOTHING
"""
_MEANWHILE = """
    UPDATE invoker.deliveries d SET
        state = CASE WHEN s.disabled AND d.reason IS NULL THEN 'parked' ELSE 'due' END,
        due_at = CASE WHEN s.disabled AND d.reason IS NULL THEN d.due_at ELSE now() END
    FROM invoker.deliveries o LEFT JOIN invoker.business_systems s ON s.channel = o.channel AND s.system = o.system
    WHERE o.id = ANY($1::text[]) AND d.id = o.id AND d.state = 'due' AND d.lease IS NULL AND NOT d.test
        AND (s.disabled IS NOT false OR d.reason IS NOT NULL)
    RETURNING d.id
"""
_ACCEPTED = """
    UPDATE invoker.signatures s SET accepted_at = now(), accepted_how = a.how, accepted_delivery = a.delivery
    FROM (SELECT DISTINCT ON (channel, system, key_id) * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS a(channel, system, key_id, how, delivery)) AS a
    WHERE s.channel = a.channel AND s.system = a.system AND s.key_id = a.key_id
        AND (s.accepted_at IS NULL OR s.accepted_how <> a.how OR s.accepted_at < now() - interval '1 minute')
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call that was made."""

    endpoint: Endpoint
    started: datetime
    duration_ms: int
    ended: Answered | Failed

    def accepted(self) -> tuple[str, str] | None:
        """The signature that the receiver accepted, as far as its answer shows: its key id, and how that shows.

        ``named``: the receiver named it; ``alone``: it was the only one sent, and the answer was a success.
        """
        if not isinstance(self.ended, Answered) or not self.ended.succeeded:
            return None
        named = self.ended.named_key
        for one in self.endpoint.signatures:
            if named is not None and named in (one.key_id, fingerprint(one.secret)):
                return one.key_id, "named"
        sent = self.endpoint.signatures
        return (sent[0].key_id, "alone") if named is None and len(sent) == 1 else None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one claimed delivery row; ``attempt`` is None where no call was made."""

    row: Any
    next: Next
    attempt: Attempt | None = None


class Recorder:
    """Records results in the order they come, many at once; what cannot be recorded yet is kept and tried again."""

    def __init__(self, pool: Pool, pace: Pace, told: Callable[[], None], on_step: Callable[[str], None]) -> None:
        self._pool, self._pace, self._told, self._on_step = pool, pace, told, on_step
        self._queue: asyncio.Queue[Result] = asyncio.Queue()
        self.tallies: Counter[str] = Counter()
        """What was counted since the sweeper last took it."""

    def put(self, result: Result) -> None:
        self._queue.put_nowait(result)

    async def drained(self) -> None:
        await self._queue.join()

    async def run(self) -> None:
        while True:
            results = [await self._queue.get()]
            await asyncio.sleep(_GATHER_S)
            while len(results) < _AT_ONCE and not self._queue.empty():
                results.append(self._queue.get_nowait())
            await self._record_surely(results)
            for result in results:
                self._queue.task_done()
                if result.attempt is not None:
                    self._on_step("recorded")

    async def _record_surely(self, results: list[Result]) -> None:
        while True:
            try:
                async with (
                    asyncio.timeout(self._pace.database),
                    self._pool.acquire() as connection,
                    connection.transaction(),
                ):
                    recorded = await record(connection, results, self._pace)
            except OUTAGES as error:
                log.warning("%d results wait for the database (%s)", len(results), type(error).__name__)
                await asyncio.sleep(0.5)
            except Exception:
                # One that cannot be recorded must not take the others with it; its lease ends, and it is called again.
                if len(results) == 1:
                    log.exception("what came of delivery %s cannot be recorded", results[0].row["id"])
                    return
                for result in results:
                    await self._record_surely([result])
                return
            else:
                self._count(results, recorded)
                return

    def _count(self, results: list[Result], recorded: list[Result]) -> None:
        for result in recorded:
            self.tallies[_tally(result)] += 1
        if len(recorded) < len(results):
            log.warning("%d deliveries: another worker had them meanwhile", len(results) - len(recorded))
        self._told()


def _tally(result: Result) -> str:
    match result.next:
        case Delivered():
            return "delivered"
        case GaveUp():
            return "dead"
        case RetryAt():
            return "retried"
        case Parked():
            return "parked"
        case PutBack():
            return "put_back"
        case _:
            assert_never(result.next)


async def record(connection: Connection, results: Sequence[Result], pace: Pace) -> list[Result]:
    """Records results, within the caller's transaction; returns those that still held their lease."""
    ends = [_end(result) for result in results]
    held = {row["id"] for row in await connection.fetch(_END, *(list(column) for column in zip(*ends, strict=True)))}
    kept = [result for result in results if result.row["id"] in held]
    called = [result for result in kept if result.attempt is not None]
    await _keep_attempts(connection, called)
    notes = [note for result in kept if (note := _outcome(result)) is not None]
    disabling = await _turn_circuits(connection, called, pace)
    await tell(connection, notes + disabling)
    await _wake_retries(connection, kept)
    return kept


def _end(result: Result) -> tuple[Any, ...]:
    row, attempt = result.row, result.attempt
    key_id = None if attempt is None else attempt.endpoint.signatures[0].key_id
    uncounted = 1 if attempt is None else 0
    about = row["id"], row["lease"]
    match result.next:
        case Delivered():
            return (*about, "delivered", None, None, key_id, uncounted, 0)
        case GaveUp(reason):
            return (*about, "dead", None, reason, key_id, uncounted, 0)
        case RetryAt(when, excused):
            return (*about, "due", when, None, key_id, uncounted, int(excused))
        case PutBack(when):
            return (*about, "due", when, None, key_id, uncounted, 0)
        case Parked():
            return (*about, "parked", None, None, key_id, uncounted, 0)
        case _:
            assert_never(result.next)


async def _keep_attempts(connection: Connection, called: Sequence[Result]) -> None:
    columns: list[tuple[Any, ...]] = []
    accepted: list[tuple[str, ...]] = []
    for result in called:
        row, attempt = result.row, result.attempt
        if attempt is None:
            continue
        proof = attempt.accepted()
        key_ids = " ".join(signature.key_id for signature in attempt.endpoint.signatures)
        match attempt.ended:
            case Answered():
                came: tuple[Any, ...] = (attempt.ended.status, None, None, attempt.ended.answer)
            case Failed():
                came = (None, attempt.ended.stage, attempt.ended.error, None)
            case _:
                assert_never(attempt.ended)
        took = (attempt.started, attempt.duration_ms)
        columns.append((row["id"], row["attempts"], *took, key_ids, *came, proof and proof[0]))
        if proof is not None:
            accepted.append((row["channel"], row["system"], *proof, row["id"]))
    if columns:
        await connection.execute(_ATTEMPTS, *(list(column) for column in zip(*columns, strict=True)))
    if accepted:
        await connection.execute(_ACCEPTED, *(list(column) for column in zip(*accepted, strict=True)))


def _outcome(result: Result) -> Note | None:
    row, attempt = result.row, result.attempt
    key_id = row["key_id"] if attempt is None else attempt.endpoint.signatures[0].key_id
    made = row["attempts"] - (1 if attempt is None else 0)
    about = {"system": row["system"], "code": row["code"], "delivery": row["id"], "key_id": key_id, "attempts": made}
    match result.next:
        case Delivered(answer):
            return outcome_note(Asked.of(row), IntentInvoked(**about, result=answer))
        case GaveUp(reason, message):
            return outcome_note(Asked.of(row), InvocationFailed(**about, status="dead", reason=reason, message=message))
        case RetryAt() | Parked() | PutBack():
            return None
        case _:
            assert_never(result.next)


async def _turn_circuits(connection: Connection, called: Sequence[Result], pace: Pace) -> list[Note]:
    """Each system's circuit after its calls, in order; returns the commands that disable what deserves it.

    A test call that failed is not held against its system: it may carry a signature that nobody knows yet.
    """
    by_system: dict[tuple[str, str], list[Result]] = defaultdict(list)
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


async def _circuits(
    connection: Connection, by_system: dict[tuple[str, str], list[Result]]
) -> dict[tuple[str, str], Circuit]:
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


_FIELDS = ("failures", "openings", "open_until", "probing", "failing_since", "disable_asked_at")


async def _keep_circuit(connection: Connection, key: tuple[str, str], circuit: Circuit) -> None:
    if circuit == CLOSED:
        await connection.execute("DELETE FROM invoker.circuits WHERE channel = $1 AND system = $2", *key)
    else:
        await connection.execute(
            "UPDATE invoker.circuits SET failures = $3, openings = $4, open_until = $5, probing = $6, "
            "failing_since = $7, disable_asked_at = $8 WHERE channel = $1 AND system = $2",
            *key,
            *(getattr(circuit, name) for name in _FIELDS),
        )


async def _wake_retries(connection: Connection, kept: Sequence[Result]) -> None:
    """What is due again wakes its line; what was disabled or deleted while it was called is treated so at once."""
    again = {
        result.row["id"]: (result.row, result.next.when)
        for result in kept
        if isinstance(result.next, RetryAt | PutBack)
    }
    if not again:
        return
    now = datetime.now(UTC)
    meanwhile = {row["id"] for row in await connection.fetch(_MEANWHILE, list(again))}
    lanes: dict[bool, list[queue.Lane]] = {True: ["test"], False: ["first", "retry"]}
    await queue.wake(
        connection,
        [
            queue.Wake(row["channel"], row["system"], lane, now if key in meanwhile else when)
            for key, (row, when) in again.items()
            for lane in lanes[row["test"]]
        ],
    )
