"""From requests on Kafka to delivery rows: one a request, its body frozen, in the transaction of the checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from contracts.envelope import CommandEnvelope, Invalid, ReadableEnvelope, Unreadable, problem_of, read_command
from contracts.ids import new_id
from contracts.invocation import TEST_CALL, InvocationFailed, InvokeIntent, MakeTestCall
from services.infrastructure.postgres import Connection
from services.invoker import queue
from services.invoker.notifications import Asked, Note, dead_letter, outcome_note, reused_note, tell
from services.invoker.resolution import Ready, Wanted, known_of, resolve_all

_INSERT = """
    INSERT INTO invoker.deliveries (id, account, channel, request_id, correlation_id, system, code, template, request,
        state, expires_at, body, test, key_alone)
    SELECT id, account, channel, request_id, correlation_id, system, code, template, request::json,
        state, expires_at, body, test, key_alone
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
        $9::text[], $10::text[], $11::timestamptz[], $12::bytea[], $13::bool[], $14::text[])
        AS r(id, account, channel, request_id, correlation_id, system, code, template, request,
            state, expires_at, body, test, key_alone)
    ON CONFLICT (account, channel, request_id) DO NOTHING
    RETURNING account, channel, request_id, system, state, lane, due_at
"""
_EARLIER = """
    SELECT d.account, d.channel, d.request_id, d.request, d.test
    FROM unnest($1::text[], $2::text[], $3::text[]) AS w(account, channel, request_id)
    JOIN invoker.deliveries d USING (account, channel, request_id)
"""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that can be read, and whom to answer."""

    envelope: CommandEnvelope
    body: InvokeIntent | MakeTestCall

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it one request, and one delivery row: account, channel and request id."""
        return self.envelope.accountid, self.envelope.subject, self.envelope.id

    @property
    def code(self) -> str:
        return self.body.code if isinstance(self.body, InvokeIntent) else TEST_CALL

    def wanted(self) -> Wanted:
        about = self.envelope.accountid, self.envelope.subject, self.body.system, self.code
        if isinstance(self.body, InvokeIntent):
            return Wanted(*about, self.body.template, self.body.data, self.body.settings_version)
        return Wanted(*about, None, None, self.body.settings_version)


class InvalidRequest(Exception):
    """It can be answered, but not served; the sentence says why."""


class Ingest:
    """Applies batches of `switchboard.invocation-requests`; what is unreadable goes to the dead letters."""

    def __init__(self, on_step: Callable[[str], None] = lambda _: None) -> None:
        self._on_step = on_step

    async def take(self, connection: Connection, _: int, records: Sequence[Any]) -> None:
        requests: list[Request] = []
        notes: list[Note] = []
        for record in records:
            try:
                envelope = read_command(record.value)
                requests.append(Request(envelope, request_of(envelope)))
            except Unreadable as finding:
                notes.append(dead_letter(record, str(finding)))
            except Invalid as finding:
                notes.append(_refusal(finding.envelope, finding.problem))
            except InvalidRequest as finding:
                notes.append(_refusal(envelope, str(finding)))
        await tell(connection, notes)
        await _insert(connection, requests)
        self._on_step("ingested")


def request_of(envelope: CommandEnvelope) -> InvokeIntent | MakeTestCall:
    """What the envelope asks for. Raises `InvalidRequest`."""
    if envelope.dryrun:
        raise InvalidRequest(
            "'dryrun' is wrong: no call is dry; over HTTP, POST …/invocations?dry_run=true judges a request."
        )
    try:
        if envelope.type == MakeTestCall.__name__:
            return MakeTestCall.model_validate(envelope.data)
        if envelope.type != InvokeIntent.__name__:
            kinds = f"{InvokeIntent.__name__} and {MakeTestCall.__name__}"
            raise InvalidRequest(f"'type' is wrong: this topic takes {kinds}, not {envelope.type!r}.")
        return InvokeIntent.model_validate(envelope.data)
    except ValidationError as error:
        raise InvalidRequest(problem_of(error, "data")) from None


def _refusal(envelope: CommandEnvelope | ReadableEnvelope, problem: str) -> Note:
    asked = Asked(envelope.accountid, envelope.subject, envelope.id, envelope.id)
    return outcome_note(asked, InvocationFailed(status="refused", reason="InvalidCommand", message=problem))


async def _insert(connection: Connection, requests: Sequence[Request]) -> None:
    """The rows, due where everything is known, else waiting; a request that has a row already changes nothing."""
    if not requests:
        return
    wanted = [request.wanted() for request in requests]
    known = await known_of(connection, wanted)
    now = datetime.now(UTC)
    resolved = await resolve_all(wanted, known)
    columns = [_row(request, resolution, now) for request, resolution in zip(requests, resolved, strict=True)]
    rows = await connection.fetch(_INSERT, *(list(column) for column in zip(*columns, strict=True)))
    if len(rows) < len(requests):
        fresh = {(row["account"], row["channel"], row["request_id"]) for row in rows}
        await _refuse_reused(connection, requests, fresh)
    await queue.wake(
        connection,
        [
            queue.Wake(row["channel"], row["system"], row["lane"], row["due_at"])
            for row in rows
            if row["state"] == "due"
        ],
    )


async def _refuse_reused(connection: Connection, requests: Sequence[Request], fresh: set[tuple[str, str, str]]) -> None:
    """Tells of each request whose id had another content before; the one that came first stands."""
    repeats: list[Request] = []
    for request in requests:
        if request.key in fresh:
            fresh.remove(request.key)
        else:
            repeats.append(request)
    keys = zip(*(request.key for request in repeats), strict=True)
    earlier = {
        (row["account"], row["channel"], row["request_id"]): (row["test"], canonical(json.loads(row["request"])))
        for row in await connection.fetch(_EARLIER, *(list(column) for column in keys))
    }
    notes: list[Note] = []
    for request in repeats:
        content = canonical(request.body.model_dump(exclude_unset=True))
        if earlier[request.key] != (isinstance(request.body, MakeTestCall), content):
            notes.append(_reused(request, content))
    await tell(connection, notes)


def canonical(content: object) -> str:
    """JSON by which contents are compared: the order of fields does not count; 1, 1.0 and true are not the same."""
    return json.dumps(content, sort_keys=True)


def _reused(request: Request, content: str) -> Note:
    envelope = request.envelope
    digest = hashlib.sha256(f"{envelope.type}\n{content}".encode()).hexdigest()[:16]
    asked = Asked(envelope.accountid, envelope.subject, envelope.id, _correlation(envelope))
    outcome = InvocationFailed(
        system=request.body.system,
        code=request.code,
        status="refused",
        reason="RequestIdReused",
        message=f"Another request had the id {envelope.id!r} before, and stands; this one needs an id of its own.",
    )
    return reused_note(asked, digest, outcome)


def _correlation(envelope: CommandEnvelope) -> str:
    return (envelope.correlationid or envelope.id).replace("\x00", "")


def _row(request: Request, resolution: object, now: datetime) -> tuple[Any, ...]:
    envelope, body = request.envelope, request.body
    ready = resolution if isinstance(resolution, Ready) else None
    ttl = body.ttl_seconds if isinstance(body, InvokeIntent) else None
    return (
        new_id(),
        envelope.accountid,
        envelope.subject,
        envelope.id,
        _correlation(envelope),
        body.system,
        request.code,
        body.template if isinstance(body, InvokeIntent) else None,
        body.model_dump_json(exclude_unset=True),
        "waiting" if ready is None else "parked" if ready.parked else "due",
        None if ttl is None else now + timedelta(seconds=ttl),
        None if ready is None else ready.body,
        isinstance(body, MakeTestCall),
        body.key_id if isinstance(body, MakeTestCall) else None,
    )
