"""Every problem that a response can have: its statuses, and an example. The OpenAPI document is made from this table.

A route, or a function that it depends on, names its problems with `raises`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from contracts.rejections import REJECTIONS, InvalidCommand

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:switchboard:problem:"

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ProblemType:
    """``detail`` and ``members`` are those of an example. The first of several ``statuses`` is the usual one."""

    statuses: tuple[int, ...]
    detail: str
    members: Mapping[str, Any] = field(default_factory=dict)


_REJECTION_STATUS = {
    "InvalidCommand": 422,
    "EnterpriseAuthenticationMissing": 422,
    "ApiRequestUrlRefused": 422,
    "SealKeyRefused": 422,
    "IntentSchemaInvalid": 422,
    "DefaultDataBreaksSchema": 422,
    "DecisionTimedOut": 422,
    "OtpSchedulingNeedsCountries": 422,
    "SpendGuardNeedsLimit": 422,
    "ActorMissing": 422,
    "InstantHasPassed": 422,
    "AuthorCannotApprove": 403,
    "SignatureNeedsApiRequestUrl": 422,
    "ChannelUnknown": 404,
    "BusinessSystemUnknown": 404,
    "IntentUnknown": 404,
    "SignatureUnknown": 404,
    "ChangeUnknown": 404,
    "ChannelIsRetired": 410,
    "VersionConflict": 412,
    "VersionYetToCome": 412,
    "TooManyCommands": 429,
    "DecisionFailed": 500,
}
_OTHER_REJECTIONS = 409

_FACTS: dict[str, Any] = {
    "account": "acme",
    "at": "2026-11-23T08:00:00.000Z",
    "author": "anna@acme.example",
    "change": "c-1",
    "changed_at": 8,
    "channel": "ch-1",
    "channel_type": "viber",
    "code": "ORDER_STATUS",
    "command": "0199a7c2-6b1e-7d3a-9f00-3c5a7be01234",
    "countries": ["IN"],
    "current": 7,
    "expected": 9,
    "key_id": "key-1",
    "limit": 50,
    "limit_ms": 100,
    "mode": "enforce",
    "more": 0,
    "name": "CRM",
    "problem": "'enabled' is missing.",
    "reason": "it is not what was expected",
    "resource": "sms",
    "sections": ["retire"],
    "size": 300_000,
    "state": "applied",
    "system": "crm",
    "template": "order-update",
    "templates": ["order-update"],
    "valid_until": "2026-11-23T08:00:00.000Z",
}
"""An example of every fact that a rejection has."""


def _rejections() -> Iterator[tuple[str, ProblemType]]:
    for name, kind in REJECTIONS.items():
        rejection = kind(**{fact: _FACTS[fact] for fact in kind.model_fields})
        members = {**rejection.model_dump(), "command_id": _FACTS["command"], "rejection": name}
        if kind is not InvalidCommand:  # it is refused before its channel is looked up
            members["version"] = _FACTS["current"]
        yield name, ProblemType((rejection_status(name),), rejection.message, members)


def rejection_status(name: str) -> int:
    """The HTTP status of a rejection; 409 of one that a newer decider knows."""
    return _REJECTION_STATUS.get(name, _OTHER_REJECTIONS)


_COMMAND_ID = {"command_id": _FACTS["command"]}

_OWN = {
    # The request itself.
    "ParameterInvalid": ProblemType((400,), "'limit' is wrong: input should be less than or equal to 1000."),
    "ParameterUnknown": ProblemType((400,), "There is no parameter 'dryrun'; this route takes dry_run."),
    "RequestAmbiguous": ProblemType((400,), "The header Authorization was sent twice; send it once."),
    "RequestUnreadable": ProblemType((400,), "This is no HTTP/1.1 request with a head of at most 32,768 bytes."),
    "BodyUnreadable": ProblemType((400,), "The body must be a JSON object: the command's data."),
    "AccountMissing": ProblemType(
        (400,), "The platform and providers act for an account: name it in the header Switchboard-Account."
    ),
    "ConfirmationMissing": ProblemType(
        (400,),
        "A retired channel never comes back; to retire it, send the request with ?confirm=ch-1.",
        {"channel": "ch-1"},
    ),
    "CursorRefused": ProblemType(
        (400,), "This is not a cursor: give one exactly as a change or a response carried it."
    ),
    "RequestTimeout": ProblemType((408,), "The body did not arrive within 30 s."),
    "BodyTooLarge": ProblemType((413,), "A body may have at most 524,288 bytes."),
    "MediaTypeUnsupported": ProblemType((415,), "Send the body as application/json in UTF-8, not text/plain."),
    "NotAcceptable": ProblemType((406,), "Usage comes as application/json or text/csv."),
    "PathContradicted": ProblemType((422,), "The body's 'system' differs from the path's; leave it out."),
    # Who asks, and how often.
    "Unauthenticated": ProblemType(
        (401,), "Send a credential that is valid now and from here, such as an API key, as Authorization: Bearer sb_…."
    ),
    "Forbidden": ProblemType((403,), "This needs the role editor, which the credential does not have."),
    "TooManyRequests": ProblemType(
        (429,), "The credential or its account has made too many requests; wait for the seconds of Retry-After."
    ),
    "TooManyConnections": ProblemType((503,), "This gateway has no connection left; try again shortly."),
    "TooManyFollowers": ProblemType(
        (429, 503), "An account may have 200 long polls at a time on a gateway; end one first."
    ),
    "TooManyTestCalls": ProblemType((429, 503), "An account may make 60 test calls a minute."),
    "TooManyListeners": ProblemType((429,), "An account may have 10 listeners at a time; end one first."),
    "TooManyReplays": ProblemType(
        (429,), "The account has replayed as many deliveries as it may in a minute; go on after Retry-After."
    ),
    "DeliveryQuotaExceeded": ProblemType(
        (429,), "The account's deliveries take more than 10,000,000,000 bytes; first some have to end."
    ),
    # What is not there.
    "ClientLeft": ProblemType((499,), "The client closed the connection before the audit was done."),
    "RouteUnknown": ProblemType((404,), "There is no route /v1/chanels; /docs lists them all."),
    "MethodNotAllowed": ProblemType((405,), "/v1/channels does not allow PUT; /docs lists the allowed methods."),
    "NotYetRegistered": ProblemType((404,), "The channel was registered later.", {"channel": "ch-1"}),
    "VersionUnknown": ProblemType((404,), "Channel 'ch-1' has no version 12 yet; it is at version 7."),
    "MessageUnknown": ProblemType((404,), "The channel has no message 'm-1'.", {"channel": "ch-1", "message": "m-1"}),
    "DeliveryUnknown": ProblemType((404,), "The account has no delivery 'd-1'.", {"delivery": "d-1"}),
    "ApiKeyUnknown": ProblemType((404,), "There is no API key 'k-1'.", {"key_id": "k-1"}),
    "RateBookUnknown": ProblemType((404,), "There is no rate book 12.", {"rate_book": 12}),
    "SchedulingResourceUnknown": ProblemType((404,), "There is no scheduling resource 'pool 1'."),
    # What cannot be done now.
    "TooManyChannels": ProblemType((409,), "An account may have 10,000 channels; retire one first.", {"quota": 10_000}),
    "SignatureRevealedBefore": ProblemType(
        (409,), "A request with this Idempotency-Key revealed the signature before.", _COMMAND_ID
    ),
    "SignatureIsNewest": ProblemType(
        (409,), "It is the newest signature; issue another one first.", {"key_id": "key-2"}
    ),
    "SignatureNotProven": ProblemType(
        (409,), "Nothing shows yet that the receiver accepts signature key-2.", {"key_id": "key-2"}
    ),
    "RequestIdReused": ProblemType(
        (409,),
        "Another request already has the id 'r-1'; send this one with another Idempotency-Key.",
        {"request_id": "r-1", "delivery": "d-1"},
    ),
    "CallNotOffered": ProblemType(
        (404,), "No call of this delivery was offered to the channel's listeners.", {"delivery": "d-1"}
    ),
    "CallAnswered": ProblemType(
        (409,), "Another listener answered first; its answer is the result.", {"delivery": "d-1"}
    ),
    "CallOver": ProblemType((409,), "The time of the call was over before this answer came.", {"delivery": "d-1"}),
    "DeliveryNotReplayable": ProblemType(
        (409,), "The delivery has not ended yet.", {"delivery": "d-1", "state": "due"}
    ),
    "SectionsInvalid": ProblemType((422,), "'channels' is missing."),
    "ReplayInvalid": ProblemType((422,), "'state' is not a known field."),
    "StateNotReplayable": ProblemType((422,), "Only ended or parked deliveries can be replayed, not ['due']."),
    "ApiKeyInvalid": ProblemType((422,), "A key of scope 'channel' needs 'channel'."),
    "ApiKeyNotValid": ProblemType(
        (409,), "API key k-1 is revoked or has expired; create a new one.", {"key_id": "k-1"}
    ),
    "ApiKeyStronger": ProblemType((403,), "A key may do no more than the key that makes it: these roles go beyond it."),
    "TooManyApiKeys": ProblemType((409,), "An account or a provider may have 200 API keys; revoke one first."),
    "RateBookNotApplied": ProblemType((504,), "The rates are published, but no message router applied them in time."),
    "AuditImpossible": ProblemType((409,), "The answer has 9,000,000 bytes; at most 8,388,608 are sent over HTTP."),
    # Refusals of the message router.
    "InvalidRequest": ProblemType((422,), "'recipient' is missing.", {"message": "m-1", "reason": "InvalidRequest"}),
    "MessageIdReused": ProblemType(
        (409,), "Another message has this id already.", {"message": "m-1", "reason": "MessageIdReused"}
    ),
    "ChannelRetired": ProblemType((410,), "The channel is retired.", {"message": "m-1", "reason": "ChannelRetired"}),
    "SettingsNotKnown": ProblemType(
        (409,),
        "Version 9 of the channel's settings did not become known in time.",
        {"message": "m-1", "reason": "SettingsNotKnown"},
    ),
    "InternalError": ProblemType(
        (500,),
        "The request could not be handled because of a fault on our side.",
        {"message": "m-1", "reason": "InternalError"},
    ),
    # Our side.
    "Fault": ProblemType((500,), "An internal error occurred; the log has the details."),
    "LogNotSound": ProblemType(
        (500,), "The log cannot be folded at switchboard.events/3/17; `switchboard audit verify` names the fault."
    ),
    "Unavailable": ProblemType((503,), "The broker is unavailable at the moment; try again shortly."),
    "IssuerUnavailable": ProblemType(
        (503,),
        "Whether the token is valid cannot be told: its issuer does not answer at the moment; try again shortly.",
    ),
    "WhatIfTooLarge": ProblemType((409,), "There are more than 50,000 messages in these days; ask for fewer days."),
    "AuditsBusy": ProblemType((503,), "Other audits are reading the log at the moment; try again shortly."),
    "AuditTooLong": ProblemType((503,), "The audit took longer than 60 s and was ended; ask for one channel."),
    "ReadModelBehind": ProblemType(
        (504,), "The read model has version 6, not yet 7; try again shortly.", {"version": 6}
    ),
    "OutcomeTimeout": ProblemType(
        (504,),
        "The command was published, but its outcome did not arrive in time. Repeat the request with the same "
        "Idempotency-Key to learn the outcome; nothing happens twice.",
        _COMMAND_ID,
    ),
    "TestCallPending": ProblemType(
        (504,),
        "The test call was not made within 25 s; /v1/deliveries shows what becomes of it.",
        {"request_id": "r-1"},
    ),
}

PROBLEM_TYPES: dict[str, ProblemType] = {**dict(_rejections()), **_OWN}
"""Name of a problem, which ends its ``type`` -> what the OpenAPI document says of it."""


def raises(*names: str) -> Callable[[Function], Function]:
    """Declares which problems a route, or a function that routes depend on, can answer with: names of `PROBLEM_TYPES`.

    Those that every route has, every route with a body, or every command, need not be named.
    """
    for name in names:
        if name not in PROBLEM_TYPES:
            raise ValueError(f"Problem {name!r} is not in PROBLEM_TYPES; add it there with its status and an example.")

    def declare(function: Function) -> Function:
        function.problems = names  # type: ignore[attr-defined]
        return function

    return declare
