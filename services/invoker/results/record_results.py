"""Records results of leased deliveries in one transaction: state, attempt, circuit and outcome, fenced by the lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, assert_never
from uuid import UUID

from services.infrastructure.postgres import Connection
from services.invoker.limits import Limits
from services.invoker.outbox.records import OutboxRecord, add_to_outbox
from services.invoker.queue.scheduling import Lane, Wake, wake
from services.invoker.results.attempt import Attempt, DeliveryResult, RecordedBatch, outcome_of
from services.invoker.results.circuit_store import update_circuits
from services.invoker.results.record_success import Success, record_successes
from services.invoker.results.retry_policy import Answered, Delivered, Failed, GaveUp, Parked, Postponed, RetryAt
from services.invoker.results.verification import update_verification

_UPDATE_DELIVERIES = """
    WITH updated AS (UPDATE invoker.deliveries d SET
        state = r.state, due_at = coalesce(r.due_at, d.due_at),
        reason = CASE WHEN r.state = 'due' THEN d.reason ELSE r.reason END,
        key_id = coalesce(r.key_id, d.key_id), attempts = d.attempts - r.not_called,
        uncounted = d.uncounted + r.uncounted,
        lease = NULL, leased_until = NULL,
        ended_at = CASE WHEN r.state IN ('delivered', 'dead') THEN now() END,
        stored_bytes = d.stored_bytes + r.answer_bytes
    FROM unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::int[], $8::int[],
        $9::int[]) AS r(id, lease, state, due_at, reason, key_id, not_called, uncounted, answer_bytes)
    WHERE d.id = r.id AND d.lease = r.lease RETURNING d.id, d.account, r.answer_bytes
    ), counted AS (
        INSERT INTO invoker.stored_bytes_changes
        SELECT account, sum(answer_bytes) FROM updated WHERE answer_bytes > 0 GROUP BY account
    )
    SELECT id FROM updated
"""
_INSERT_ATTEMPTS = """
    INSERT INTO invoker.attempts
        (delivery, number, started_at, duration_ms, key_ids, status, stage, error, answer, accepted_key_id)
    SELECT delivery, number, started_at, duration_ms, string_to_array(key_ids, ' '), status, stage, error, answer, key
    FROM unnest($1::text[], $2::int[], $3::timestamptz[], $4::int[], $5::text[], $6::int[], $7::text[], $8::text[],
        $9::bytea[], $10::text[])
        AS a(delivery, number, started_at, duration_ms, key_ids, status, stage, error, answer, key)
    ON CONFLICT DO NOTHING
"""
_APPLY_CHANGES_MADE_DURING_CALLS = """
    UPDATE invoker.deliveries d SET
        state = CASE WHEN s.disabled AND d.reason IS NULL THEN 'parked' ELSE 'due' END,
        due_at = CASE WHEN s.disabled AND d.reason IS NULL THEN d.due_at ELSE now() END
    FROM invoker.deliveries o LEFT JOIN invoker.business_systems s ON s.channel = o.channel AND s.system = o.system
    WHERE o.id = ANY($1::text[]) AND d.id = o.id AND d.state = 'due' AND d.lease IS NULL AND NOT d.test
        AND (s.disabled IS NOT false OR d.reason IS NOT NULL)
    RETURNING d.id
"""
_UPDATE_ACCEPTED = """
    UPDATE invoker.signatures s SET accepted_at = now(), accepted_how = a.how, accepted_delivery = a.delivery
    FROM (SELECT DISTINCT ON (channel, system, key_id) * FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS a(channel, system, key_id, how, delivery)) AS a
    WHERE s.channel = a.channel AND s.system = a.system AND s.key_id = a.key_id
        AND (s.accepted_at IS NULL OR s.accepted_how <> a.how OR s.accepted_at < now() - interval '1 minute')
"""


class _DeliveryUpdate(NamedTuple):
    id: str
    lease: UUID | None
    state: str
    due_at: datetime | None
    reason: str | None
    key_id: str | None
    not_called: int
    """1 where no call was made: the claim had counted an attempt."""
    uncounted: int
    answer_bytes: int


class _AttemptRow(NamedTuple):
    delivery: str
    number: int
    started_at: datetime
    duration_ms: int
    key_ids: str
    status: int | None
    stage: str | None
    error: str | None
    answer: bytes | None
    accepted_key_id: str | None


class _Acceptance(NamedTuple):
    channel: str
    system: str
    key_id: str
    how: str
    delivery: str


async def record_results(connection: Connection, results: Sequence[DeliveryResult], limits: Limits) -> RecordedBatch:
    """Records all results or none. Those of a system whose calls all succeeded take one set-based statement."""
    mixed = {result.delivery.system_key for result in results if not _succeeded(result)}
    successes = [result for result in results if result.delivery.system_key not in mixed]
    if len(successes) == len(results):
        return await _record_successes(connection, successes)
    async with connection.transaction():
        recorded = await _record_successes(connection, successes) if successes else RecordedBatch([], [], [])
        others = [result for result in results if result.delivery.system_key in mixed]
        return replace(recorded, results=recorded.results + await _record_any(connection, others, limits))


def _succeeded(result: DeliveryResult) -> bool:
    """Whether one statement may record it with others; an answer of a listener shows nothing about its system."""
    delivered = isinstance(result.next_step, Delivered) and result.attempt is not None
    return delivered and not result.delivery.to_listener


async def _record_successes(connection: Connection, results: Sequence[DeliveryResult]) -> RecordedBatch:
    outcomes: dict[str, OutboxRecord] = {}
    successes: list[Success] = []
    for result in results:
        delivery, attempt, outcome = result.delivery, result.attempt, outcome_of(result)
        if attempt is None or outcome is None or not isinstance(attempt.result, Answered):
            continue
        outcomes[delivery.id] = outcome
        key_id, how = attempt.accepted_key() or (None, None)
        successes.append(
            Success(
                delivery.id,
                delivery.lease,
                delivery.channel,
                delivery.system,
                delivery.attempts,
                attempt.started_at,
                attempt.duration_ms,
                attempt.key_ids(),
                attempt.result.status,
                attempt.result.answer,
                key_id,
                how,
                outcome.value or b"",
                attempt.endpoint.api_request_url,
            )
        )
    recorded, outbox_ids = await record_successes(connection, successes)
    return RecordedBatch(
        [result for result in results if result.delivery.id in recorded],
        outbox_ids,
        [outcomes[delivery_id] for delivery_id in recorded],
    )


async def _record_any(
    connection: Connection, results: Sequence[DeliveryResult], limits: Limits
) -> list[DeliveryResult]:
    """Records results of any kind; returns those whose lease was still valid."""
    updates = [_update_of(result) for result in results]
    rows = await connection.fetch(_UPDATE_DELIVERIES, *_columns(updates))
    updated = {row["id"] for row in rows}
    recorded = [result for result in results if result.delivery.id in updated]
    called = [result for result in recorded if result.attempt is not None]
    await _insert_attempts(connection, called)
    outcomes = [outcome for result in recorded if (outcome := outcome_of(result)) is not None]
    of_systems = [result for result in recorded if not result.delivery.to_listener]
    of_calls = [result for result in of_systems if result.attempt is not None]
    disable_commands = await update_circuits(connection, of_calls, limits)
    await add_to_outbox(connection, outcomes + disable_commands)
    await _wake_queues(connection, recorded)
    await update_verification(connection, of_systems)  # last: it waits for no lock, and is part of no deadlock
    return recorded


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _update_of(result: DeliveryResult) -> _DeliveryUpdate:
    delivery, attempt = result.delivery, result.attempt
    state = "due"
    due_at: datetime | None = None
    reason: str | None = None
    uncounted = False
    match result.next_step:
        case Delivered():
            state = "delivered"
        case GaveUp(reason):
            state = "dead"
        case RetryAt(due_at, uncounted):
            pass
        case Postponed(due_at):
            pass
        case Parked():
            state = "parked"
        case _:
            assert_never(result.next_step)
    return _DeliveryUpdate(
        delivery.id,
        delivery.lease,
        state,
        due_at,
        reason,
        key_id=None if attempt is None else attempt.newest_key_id,
        not_called=1 if attempt is None else 0,
        uncounted=int(uncounted),
        answer_bytes=len(attempt.result.answer) if attempt is not None and isinstance(attempt.result, Answered) else 0,
    )


async def _insert_attempts(connection: Connection, called: Sequence[DeliveryResult]) -> None:
    rows: list[_AttemptRow] = []
    acceptances: list[_Acceptance] = []
    for result in called:
        delivery, attempt = result.delivery, result.attempt
        if attempt is None:
            continue
        accepted = attempt.accepted_key()
        rows.append(_attempt_row(delivery.id, delivery.attempts, attempt, accepted and accepted.key_id))
        if accepted is not None:
            acceptances.append(_Acceptance(*delivery.system_key, accepted.key_id, accepted.how, delivery.id))
    if rows:
        await connection.execute(_INSERT_ATTEMPTS, *_columns(rows))
    if acceptances:
        await connection.execute(_UPDATE_ACCEPTED, *_columns(acceptances))


def _attempt_row(delivery: str, number: int, attempt: Attempt, accepted_key_id: str | None) -> _AttemptRow:
    result = attempt.result
    return _AttemptRow(
        delivery,
        number,
        attempt.started_at,
        attempt.duration_ms,
        attempt.key_ids(),
        result.status if isinstance(result, Answered) else None,
        result.stage if isinstance(result, Failed) else None,
        result.error if isinstance(result, Failed) else None,
        result.answer if isinstance(result, Answered) else None,
        accepted_key_id,
    )


async def _wake_queues(connection: Connection, recorded: Sequence[DeliveryResult]) -> None:
    """Wakes the queues of deliveries that are due again.

    One whose system was disabled or deleted while it was called is parked, or due now to be ended.
    """
    due_again = {
        result.delivery.id: (result.delivery, result.next_step.when)
        for result in recorded
        if isinstance(result.next_step, RetryAt | Postponed)
    }
    if not due_again:
        return
    now = datetime.now(UTC)
    changed = {row["id"] for row in await connection.fetch(_APPLY_CHANGES_MADE_DURING_CALLS, list(due_again))}
    lanes: dict[bool, list[Lane]] = {True: ["test"], False: ["first", "retry"]}
    await wake(
        connection,
        [
            Wake(delivery.channel, delivery.system, lane, now if delivery_id in changed else when)
            for delivery_id, (delivery, when) in due_again.items()
            for lane in lanes[delivery.test]
        ],
    )
