"""From requests on Kafka to delivery rows: one a request, its body frozen, in the transaction of the checkpoint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from contracts.envelope import CommandEnvelope, Invalid, ReadableEnvelope, Unreadable, problem_of, read_command
from contracts.ids import new_id
from contracts.invocation import INVOCATION_DATA_LIMIT, TEST_CALL, InvocationFailed, InvokeIntent, MakeTestCall
from contracts.message import compact_json
from services.infrastructure.postgres import Connection
from services.invoker import queue
from services.invoker.notifications import Asked, Note, outcome_note, tell
from services.invoker.resolution import Ready, Wanted, known_of, resolve

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
    RETURNING channel, system, state, lane, due_at
"""


@dataclass(frozen=True, slots=True)
class UnreadableRequest:
    """A request that nobody can be answered about; it goes to the dead letters."""

    record: Any
    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    """A request that can be read, and whom to answer."""

    envelope: CommandEnvelope
    body: InvokeIntent | MakeTestCall

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
    """Applies batches of `switchboard.invocation-requests`; unreadable ones are handed to ``dead_letter``."""

    def __init__(
        self,
        dead_letter: Callable[[UnreadableRequest], Awaitable[None]],
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._dead_letter, self._on_step = dead_letter, on_step

    async def take(self, connection: Connection, _: int, records: Sequence[Any]) -> None:
        requests: list[Request] = []
        refusals: list[Note] = []
        for record in records:
            try:
                envelope = read_command(record.value)
                requests.append(Request(envelope, request_of(envelope)))
            except Unreadable as finding:
                await self._dead_letter(UnreadableRequest(record, str(finding)))
            except Invalid as finding:
                refusals.append(_refusal(finding.envelope, finding.problem))
            except InvalidRequest as finding:
                refusals.append(_refusal(envelope, str(finding)))
        await tell(connection, refusals)
        await _insert(connection, requests)
        self._on_step("ingested")


def request_of(envelope: CommandEnvelope) -> InvokeIntent | MakeTestCall:
    """What the envelope asks for. Raises `InvalidRequest`."""
    try:
        if envelope.type == MakeTestCall.__name__:
            return MakeTestCall.model_validate(envelope.data)
        if envelope.type != InvokeIntent.__name__:
            kinds = f"{InvokeIntent.__name__} and {MakeTestCall.__name__}"
            raise InvalidRequest(f"'type' is wrong: this topic takes {kinds}, not {envelope.type!r}.")
        request = InvokeIntent.model_validate(envelope.data)
    except ValidationError as error:
        raise InvalidRequest(problem_of(error, "data")) from None
    try:
        size = 0 if request.data is None else len(compact_json(request.data).encode())
    except (ValueError, RecursionError):
        raise InvalidRequest("'data.data' is wrong: it must be JSON that has no NaN.") from None
    if size > INVOCATION_DATA_LIMIT:
        raise InvalidRequest(f"'data.data' is over {INVOCATION_DATA_LIMIT:,} bytes.")
    return request


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
    columns = [
        _row(request, resolve(one, what), now) for request, one, what in zip(requests, wanted, known, strict=True)
    ]
    rows = await connection.fetch(_INSERT, *(list(column) for column in zip(*columns, strict=True)))
    await queue.wake(
        connection,
        [
            queue.Wake(row["channel"], row["system"], row["lane"], row["due_at"])
            for row in rows
            if row["state"] == "due"
        ],
    )


def _row(request: Request, resolution: object, now: datetime) -> tuple[Any, ...]:
    envelope, body = request.envelope, request.body
    ready = resolution if isinstance(resolution, Ready) else None
    ttl = body.ttl_seconds if isinstance(body, InvokeIntent) else None
    return (
        new_id(),
        envelope.accountid,
        envelope.subject,
        envelope.id,
        (envelope.correlationid or envelope.id).replace("\x00", ""),
        body.system,
        request.code,
        body.template if isinstance(body, InvokeIntent) else None,
        compact_json(body.model_dump(exclude_unset=True)),
        "waiting" if ready is None else "parked" if ready.parked else "due",
        None if ttl is None else now + timedelta(seconds=ttl),
        None if ready is None else ready.body,
        isinstance(body, MakeTestCall),
        body.key_id if isinstance(body, MakeTestCall) else None,
    )
