"""Requests that send a command to a channel: the body is the command's data, the response its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NotRequired

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fastapi import Depends, Header, Query, Request
from fastapi.responses import JSONResponse
from typing_extensions import TypedDict

from contracts.ids import is_id, new_id
from contracts.kafka.publisher import Outcome
from contracts.message import CommandData
from contracts.outcome import CommandAccepted, CommandRejected, WouldAppend
from contracts.sealing import SealKey
from services.gateway.authentication.caller import Authenticated, Caller
from services.gateway.authentication.origin import origin_of
from services.gateway.problems import Problem, channel_unknown, problem_of_rejection
from services.gateway.requests import body_schema, built, command_queue_of, json_body, publisher_of, turn_of

OUTCOME_TIMEOUT_S = 10.0
_NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """How a command is to be treated, from the headers and the query."""

    command_id: str
    idempotent: bool
    expected_version: int | None
    dry_run: bool
    traceparent: str | None


async def command_options(
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="The command's id. The same key within 24 hours gets the same answer; nothing happens twice.",
            json_schema_extra={"pattern": r'^"?[A-Za-z0-9._:-]{1,128}"?$'},
        ),
    ] = None,
    if_match: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description="The ETag of a read: refused with 412 where what it read has changed since.",
            json_schema_extra={"pattern": r'^(W/)?"?[0-9]{1,15}"?$', "examples": ['"7"']},
        ),
    ] = None,
    traceparent: Annotated[
        str | None, Header(description="W3C Trace Context. One that cannot be read is ignored.")
    ] = None,
    dry_run: Annotated[bool, Query()] = False,  # noqa: FBT002 -- a query parameter
) -> CommandOptions:
    """Reads the options of a request. Raises `Problem`."""
    if idempotency_key is not None:
        idempotency_key = _unquoted(idempotency_key)
        if not is_id(idempotency_key):
            detail = "Idempotency-Key must be 1 to 128 characters of A-Z a-z 0-9 . _ : -, in quotes or not."
            raise Problem(400, "ParameterInvalid", detail)
    expected = None
    if if_match is not None:
        version = if_match.strip().removeprefix("W/").strip('"')
        if not (version.isascii() and version.isdigit() and len(version) < 16):
            raise Problem(400, "ParameterInvalid", 'If-Match must be an ETag from a response, like "7".')
        expected = int(version)
    command_id = idempotency_key or new_id()
    return CommandOptions(command_id, idempotency_key is not None, expected, dry_run, traceparent)


def _unquoted(key: str) -> str:
    """An Idempotency-Key is a string in quotes in the IETF's draft, and sent without them by many: both are one key."""
    key = key.strip()
    return key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key


@dataclass(frozen=True, slots=True)
class ChannelCommand:
    """A request that sends a command to one channel."""

    request: Request
    caller: Authenticated
    channel: str
    options: Annotated[CommandOptions, Depends(command_options)]

    async def body(self, **path_parameters: str) -> dict[str, Any]:
        """Returns the command's data: the body, completed with the path's parameters. Raises `Problem`."""
        return await json_body(self.request, path_parameters)

    async def send(self, command: str, data: dict[str, Any]) -> Outcome:
        """Publishes a command and waits for its outcome.

        Raises `Problem` for a rejection, `OutcomeTimeout`, and `QueueFull`.
        """
        if not is_id(self.channel):
            raise channel_unknown(self.channel)
        account = self.caller.required_account()
        turn_of(self.request).end()
        async with command_queue_of(self.request).turn(account):
            outcome = await publisher_of(self.request).send_raw(
                command,
                data,
                channel=self.channel,
                account=account,
                actor=self.caller.actor,
                command_id=self.options.command_id,
                expected_version=self.options.expected_version,
                dry_run=self.options.dry_run,
                traceparent=self.options.traceparent,
                origin=origin_of(self.request, self.caller.principal),
                timeout=OUTCOME_TIMEOUT_S,
            )
        if isinstance(outcome.body, CommandRejected):
            raise problem_of_rejection(outcome.body, outcome.command_id)
        return outcome


CommandRequest = Annotated[ChannelCommand, built(ChannelCommand)]


class Accepted(TypedDict):
    """What an accepted command led to."""

    command_id: str
    """The Idempotency-Key, or a new id."""

    version: int
    """The channel's version after the command, for `min_version`."""

    events: NotRequired[list[str]]
    """Ids of the events; none if nothing changed. A dry run has `would_append` instead."""

    would_append: NotRequired[list[WouldAppend]]
    """Of a dry run: the events that the command would have led to."""

    notices: NotRequired[list[str]]
    """Sentences about what not to expect of what was saved."""


def command_route(
    command: type[CommandData], *path_parameters: str, status: int = 200, answer: type[Any] = Accepted
) -> dict[str, Any]:
    """Describes a route that sends the command: the options of its decorator.

    A command of which the path has every field takes no body.
    """
    described: dict[str, Any] = {"x-switchboard-command": command.__name__}
    if command.model_fields.keys() - {*path_parameters}:
        described |= body_schema(command, *path_parameters)
    dry_run = {200: {"model": answer, "description": "What a dry run would have done."}} if status != 200 else {}
    return {"status_code": status, "response_model": answer, "responses": dry_run, "openapi_extra": described}


def command_response(outcome: Outcome, status: int = 200, **secrets: Any) -> JSONResponse:
    """Returns an accepted command's outcome as a response. One with secrets must not be cached."""
    accepted = outcome.body
    if not isinstance(accepted, CommandAccepted):
        raise TypeError("a rejection is a problem, not a response")
    body: dict[str, Any] = {"command_id": outcome.command_id, "version": accepted.version}
    if accepted.would_append is not None:
        body["would_append"] = [event.model_dump() for event in accepted.would_append]
        status = 200
    else:
        body["events"] = list(accepted.events)
    if accepted.notices:
        body["notices"] = list(accepted.notices)
    return JSONResponse(body | secrets, status, _NO_STORE if secrets else None)


def seal_key(caller: Caller, options: CommandOptions) -> SealKey:
    """Returns this request's key pair, which opens the secret in its outcome.

    A retry with the same Idempotency-Key and API key derives the same pair, so that it can open the same outcome.
    Nobody else can derive it. Without an Idempotency-Key the pair is random.
    """
    if not options.idempotent:
        return SealKey()
    derived = HKDF(SHA256(), 32, salt=None, info=b"switchboard seal " + options.command_id.encode())
    return SealKey(derived.derive(caller.token.encode()))
