"""From requests on Kafka to delivery rows: one a request, its body frozen, in the transaction of the checkpoint.

A request that can be called at once is born leased to this process, and called once that is committed: it needs no
claim. That is so where a slot is free, no failure is held against the system, and nothing waits for it in its line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from pydantic import ValidationError

from contracts.envelope import CommandEnvelope, Invalid, ReadableEnvelope, Unreadable, problem_of, read_command
from contracts.ids import new_id
from contracts.invocation import TEST_CALL, InvocationFailed, InvokeIntent, MakeTestCall
from services.infrastructure.consuming import Done
from services.infrastructure.postgres import Connection
from services.invoker import queue
from services.invoker.notifications import Asked, Note, dead_letter, outcome_note, reused_note
from services.invoker.outbox import tell
from services.invoker.pace import PACE, Pace
from services.invoker.resolution import Ready, Wanted, known_of, resolve_all
from services.invoker.slots import Slots

_INSERT = """
    INSERT INTO invoker.deliveries (id, account, channel, request_id, correlation_id, system, code, template, request,
        state, expires_at, body, test, key_alone, attempts, lease, leased_until, claimed_at)
    SELECT id, account, channel, request_id, correlation_id, system, code, template, request::json,
        state, expires_at, body, test, key_alone, CASE WHEN leased THEN 1 ELSE 0 END,
        CASE WHEN leased THEN $16::uuid END, CASE WHEN leased THEN now() + $17 END, CASE WHEN leased THEN now() END
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
        $9::text[], $10::text[], $11::timestamptz[], $12::bytea[], $13::bool[], $14::text[], $15::bool[])
        AS r(id, account, channel, request_id, correlation_id, system, code, template, request,
            state, expires_at, body, test, key_alone, leased)
    ON CONFLICT (account, channel, request_id) DO NOTHING
    RETURNING id, due_at
"""
_COLUMNS = (
    *("id", "account", "channel", "request_id", "correlation_id", "system", "code", "template", "request"),
    *("state", "expires_at", "body", "test", "key_alone"),
)
_UNTRIED = {
    "attempts": 0,
    "lease": None,
    "key_id": None,
    "reason": None,
    "excused": 0,
    "before_replay": 0,
    "replays": 0,
}
_EARLIER = """
    SELECT d.account, d.channel, d.request_id, d.request, d.body, d.test
    FROM unnest($1::text[], $2::text[], $3::text[]) AS w(account, channel, request_id)
    JOIN invoker.deliveries d USING (account, channel, request_id)
"""


_DATA = {"data"}

Row = dict[str, Any]
"""A delivery as a claim would return it."""


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


class Calls(Protocol):
    """Whoever calls what is leased to this process."""

    @property
    def slots(self) -> Slots: ...

    def start(self, rows: Sequence[Any]) -> None: ...


class Ingest:
    """Applies batches of `switchboard.invocation-requests`; what is unreadable goes to the dead letters.

    Without ``calls`` nothing is leased: all that is due waits in its line.
    """

    def __init__(
        self, calls: Calls | None = None, pace: Pace = PACE, on_step: Callable[[str], None] = lambda _: None
    ) -> None:
        self._calls, self._pace, self._on_step = calls, pace, on_step

    async def take(self, connection: Connection, _: int, records: Sequence[Any]) -> Done | None:
        requests, notes = _read(records)
        if self._calls is not None:
            await self._calls.slots.room(len(requests), self._pace.ingest_waits)
        await tell(connection, notes)
        leased = await self._insert(connection, requests)
        self._on_step("ingested")
        return partial(self._call, leased) if leased else None

    async def _insert(self, connection: Connection, requests: Sequence[Request]) -> list[Row]:
        """The rows, due where everything is known, else waiting; a request that has a row already changes nothing.

        Returns those that are leased: each has a slot.
        """
        if not requests:
            return []
        wanted = [request.wanted() for request in requests]
        known = await known_of(connection, wanted)
        now = datetime.now(UTC)
        resolved = await resolve_all(wanted, known)
        rows = [_row(request, resolution, now) for request, resolution in zip(requests, resolved, strict=True)]
        leased = self._lease([row for row, what in zip(rows, known, strict=True) if what.clear])
        try:
            fresh = await _insert(connection, rows, self._pace)
            if len(fresh) < len(requests):
                new = {request.key for request, row in zip(requests, rows, strict=True) if row["id"] in fresh}
                await _refuse_reused(connection, requests, new)
            await queue.wake(
                connection,
                [
                    queue.Wake(row["channel"], row["system"], "test" if row["test"] else "first", fresh[row["id"]])
                    for row in rows
                    if row["id"] in fresh and row["state"] == "due" and row["lease"] is None
                ],
            )
        except BaseException:
            self._give_back(leased)
            raise
        self._give_back([row for row in leased if row["id"] not in fresh])
        return [row for row in leased if row["id"] in fresh]

    def _lease(self, rows: Sequence[Row]) -> list[Row]:
        """Leases what can be called at once; returns it."""
        if self._calls is None:
            return []
        ready = [row for row in rows if row["state"] == "due" and not row["test"]]
        given = self._calls.slots.deal([(row["channel"], row["system"]) for row in ready])
        leased = [row for row, gets in zip(ready, given, strict=True) if gets]
        lease = uuid4()
        for row in leased:
            row |= {"attempts": 1, "lease": lease}
        return leased

    def _call(self, leased: Sequence[Row], committed: bool) -> None:  # noqa: FBT001 -- as `Done`
        if committed and self._calls is not None:
            self._calls.start(leased)
        else:
            self._give_back(leased)

    def _give_back(self, leased: Sequence[Row]) -> None:
        for row in leased:
            if self._calls is not None:
                self._calls.slots.give_back((row["channel"], row["system"]), "first")


def _read(records: Sequence[Any]) -> tuple[list[Request], list[Note]]:
    """The requests, and what is told of records that are none."""
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
    return requests, notes


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


async def _insert(connection: Connection, rows: Sequence[Row], pace: Pace) -> dict[str, datetime]:
    """When each is due that had no row yet, by its id."""
    columns = [[row[name] for row in rows] for name in _COLUMNS]
    leased = [row["lease"] is not None for row in rows]
    lease = next((row["lease"] for row in rows if row["lease"] is not None), None)
    return dict(await connection.fetch(_INSERT, *columns, leased, lease, timedelta(seconds=pace.lease)))


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
        (row["account"], row["channel"], row["request_id"]): (row["test"], canonical(asked_of(row)))
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


def _asked(body: InvokeIntent | MakeTestCall, ready: Ready | None) -> str:
    """The request as it is kept. Its data, most of it, is kept once: where the frozen body has it, it is true here."""
    if ready is None or not isinstance(body, InvokeIntent) or body.data is None:
        return body.model_dump_json(exclude_unset=True)
    return body.model_dump_json(exclude_unset=True, exclude=_DATA)[:-1] + ',"data":true}'


def asked_of(row: Any) -> Any:
    """What was asked for, from a row's ``request`` and ``body``."""
    asked = json.loads(row["request"])
    if asked.get("data") is True:
        asked["data"] = json.loads(row["body"])["data"]
    return asked


def _row(request: Request, resolution: object, now: datetime) -> Row:
    envelope, body = request.envelope, request.body
    ready = resolution if isinstance(resolution, Ready) else None
    ttl = body.ttl_seconds if isinstance(body, InvokeIntent) else None
    return {
        "id": new_id(),
        "account": envelope.accountid,
        "channel": envelope.subject,
        "request_id": envelope.id,
        "correlation_id": _correlation(envelope),
        "system": body.system,
        "code": request.code,
        "template": body.template if isinstance(body, InvokeIntent) else None,
        "request": _asked(body, ready),
        "state": "waiting" if ready is None else "parked" if ready.parked else "due",
        "expires_at": None if ttl is None else now + timedelta(seconds=ttl),
        "body": None if ready is None else ready.body,
        "test": isinstance(body, MakeTestCall),
        "key_alone": body.key_id if isinstance(body, MakeTestCall) else None,
        **_UNTRIED,
    }
