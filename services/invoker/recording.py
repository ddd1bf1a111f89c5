"""What came of claimed deliveries, many in one transaction: state, attempt, circuit, outcome; the lease fences all."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, assert_never

from services.infrastructure.postgres import OUTAGES, Connection, Pool
from services.invoker import queue
from services.invoker.circuits import turn_circuits
from services.invoker.delivered import Success, record_successes
from services.invoker.endpoints import SystemKey
from services.invoker.notifications import Note
from services.invoker.outbox import tell
from services.invoker.outcomes import Answered, Delivered, Failed, GaveUp, Parked, PutBack, RetryAt
from services.invoker.pace import Pace
from services.invoker.results import Recorded, Result, told_of

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


class Recorder:
    """Records results in the order they come, many at once; what cannot be recorded yet is kept and tried again.

    ``told`` is given what is recorded.
    """

    def __init__(
        self, pool: Pool, pace: Pace, told: Callable[[Recorded], None], on_step: Callable[[str], None]
    ) -> None:
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
                async with asyncio.timeout(self._pace.database), self._pool.acquire() as connection:
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
                self._count(results, recorded.kept)
                self._told(recorded)
                return

    def _count(self, results: list[Result], kept: list[Result]) -> None:
        for result in kept:
            self.tallies[_tally(result)] += 1
        if len(kept) < len(results):
            log.warning("%d deliveries: another worker had them meanwhile", len(results) - len(kept))


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


async def record(connection: Connection, results: Sequence[Result], pace: Pace) -> Recorded:
    """Records results, all of them or none."""
    failing = {_system(result) for result in results if not _succeeded(result)}
    successes = [result for result in results if _system(result) not in failing]
    if len(successes) == len(results):
        return await _record_successes(connection, successes)
    async with connection.transaction():
        recorded = await _record_successes(connection, successes) if successes else Recorded([], [], [])
        others = [result for result in results if _system(result) in failing]
        return replace(recorded, kept=recorded.kept + await _record_others(connection, others, pace))


def _system(result: Result) -> SystemKey:
    return result.row["channel"], result.row["system"]


def _succeeded(result: Result) -> bool:
    return isinstance(result.next, Delivered) and result.attempt is not None


async def _record_successes(connection: Connection, results: Sequence[Result]) -> Recorded:
    """Those of systems that had no other result."""
    notes: dict[str, Note] = {}
    successes: list[Success] = []
    for result in results:
        row, attempt, note = result.row, result.attempt, told_of(result)
        if attempt is None or note is None or not isinstance(attempt.ended, Answered):
            continue
        notes[row["id"]] = note
        key_id, how = attempt.accepted() or (None, None)
        successes.append(
            Success(
                row["id"],
                row["lease"],
                row["channel"],
                row["system"],
                row["attempts"],
                attempt.started,
                attempt.duration_ms,
                attempt.key_ids(),
                attempt.ended.status,
                attempt.ended.answer,
                key_id,
                how,
                note.value or b"",
            )
        )
    held, rows = await record_successes(connection, successes)
    return Recorded([one for one in results if one.row["id"] in held], rows, [notes[id_] for id_ in held])


async def _record_others(connection: Connection, results: Sequence[Result], pace: Pace) -> list[Result]:
    """Whatever came of systems of which some did not succeed; returns those that still held their lease."""
    ends = [_end(result) for result in results]
    held = {row["id"] for row in await connection.fetch(_END, *(list(column) for column in zip(*ends, strict=True)))}
    kept = [result for result in results if result.row["id"] in held]
    called = [result for result in kept if result.attempt is not None]
    await _keep_attempts(connection, called)
    notes = [note for result in kept if (note := told_of(result)) is not None]
    disabling = await turn_circuits(connection, called, pace)
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
        match attempt.ended:
            case Answered():
                came: tuple[Any, ...] = (attempt.ended.status, None, None, attempt.ended.answer)
            case Failed():
                came = (None, attempt.ended.stage, attempt.ended.error, None)
            case _:
                assert_never(attempt.ended)
        took = (attempt.started, attempt.duration_ms)
        columns.append((row["id"], row["attempts"], *took, attempt.key_ids(), *came, proof and proof[0]))
        if proof is not None:
            accepted.append((row["channel"], row["system"], *proof, row["id"]))
    if columns:
        await connection.execute(_ATTEMPTS, *(list(column) for column in zip(*columns, strict=True)))
    if accepted:
        await connection.execute(_ACCEPTED, *(list(column) for column in zip(*accepted, strict=True)))


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
