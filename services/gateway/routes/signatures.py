"""Signatures: issue, reveal, revoke, and which of them a receiver is known to accept."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import with_config
from typing_extensions import TypedDict

from contracts.access_log import SecretShown
from contracts.kafka.publisher import Outcome, OutcomeTimeout
from contracts.message import Time
from contracts.outcome import CommandAccepted
from contracts.sealing import plain_token_of
from contracts.signature import RefreshSignature, RevealSignature, RevokeSignature
from services.gateway.authentication.access_log import Concerned, record
from services.gateway.authentication.caller import Caller, require_allowed
from services.gateway.authentication.operations import OPERATIONS
from services.gateway.authentication.origin import actor_of
from services.gateway.commands import (
    Accepted,
    ChannelCommand,
    CommandRequest,
    command_response,
    command_route,
    seal_key,
)
from services.gateway.judged_commands import JudgedCommand
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.reads import ReadRequest, ReadSettings
from services.gateway.requests import pool_of
from services.invoker import delivery_log
from services.invoker.delivery_schemas import Proof

router = APIRouter(prefix="/v1/channels/{channel}/business-systems/{system}", tags=["Signatures"])


@with_config(use_attribute_docstrings=True)
class AcceptedWithSecret(Accepted):
    """What an accepted command led to, with the signature. A dry run has none."""

    key_id: NotRequired[str | None]
    """The signature's id."""

    signature: NotRequired[str]
    """The secret that verifies calls (Standard Webhooks): `whsec_` and base64."""

    plain_token: NotRequired[str]
    """What calls carry instead if the system has the plain style."""

    sealed: NotRequired[str | None]
    """The signature in a sealed box, where the body has `seal_to`."""


@with_config(use_attribute_docstrings=True)
class SignatureWithProof(Proof):
    """A valid signature, and how it shows that the receiver accepts it."""

    key_id: str
    fingerprint: str
    issued_at: Time
    valid_until: Time | None
    """The end of its grace period; null for the newest."""


class SignatureList(TypedDict):
    """The valid signatures."""

    signatures: list[SignatureWithProof]


class KeyProof(Proof):
    """The proof that the receiver accepts the newest signature."""

    key_id: str


class Retired(Accepted):
    """An old signature was revoked."""

    proof: KeyProof


@router.post("/signature", **command_route(RefreshSignature, "system", answer=AcceptedWithSecret))
async def refresh_signature(command: CommandRequest, system: str) -> JSONResponse:
    """Issues a new signature and shows it, once. Before the system is open, the body gives the API Request URL."""
    data = await command.body(system=system)
    return await _response_with_secret(command, "RefreshSignature", data)


@router.get("/signature", **command_route(RevealSignature, "system", "key_id", "seal_to", answer=AcceptedWithSecret))
@raises("SignatureRevealedBefore")
async def reveal_signature(
    command: CommandRequest,
    system: str,
    key_id: Annotated[str | None, Query(description="The signature's id; default: the newest.")] = None,
) -> JSONResponse:
    """Shows a valid signature again. Each showing is an event: with an Idempotency-Key that was used, it is refused."""
    data = {"system": system} if key_id is None else {"system": system, "key_id": key_id}
    return await _response_with_secret(command, "RevealSignature", data, only_once=True)


async def _response_with_secret(
    command: CommandRequest, kind: str, data: dict[str, Any], *, only_once: bool = False
) -> JSONResponse:
    """Sends a command whose outcome has a sealed secret, and opens it unless the caller gave a key of its own."""
    if "seal_to" in data:
        outcome = await command.send(kind, data)
        sealed = await _sealed(command, kind, data, outcome)
        return command_response(outcome, key_id=_key_id(outcome), sealed=sealed)
    outcome, signature = await send_for_secret(command, kind, data, only_once=only_once)
    if signature is None:
        return command_response(outcome)
    return command_response(
        outcome, key_id=_key_id(outcome), signature=signature, plain_token=plain_token_of(signature)
    )


def _key_id(outcome: Outcome) -> str | None:
    """The id of the signature in the outcome; None in outcomes of deciders that did not say it yet."""
    return outcome.body.key_id if isinstance(outcome.body, CommandAccepted) else None


async def send_for_secret(
    command: ChannelCommand, kind: str, data: dict[str, Any], *, only_once: bool = False
) -> tuple[Outcome, str | None]:
    """Sends a command whose outcome has a sealed secret, and opens it. Raises `Problem` and `OutcomeTimeout`.

    ``only_once``: raises `Problem` where the outcome is that of an earlier request.
    """
    require_allowed(command.caller.principal, OPERATIONS[f"POST {router.prefix}/signature"])
    key = seal_key(command.caller, command.options)
    try:
        outcome = await command.send(kind, data | {"seal_to": key.seal_to})
    except OutcomeTimeout as error:
        if command.options.idempotent:
            raise
        detail = (
            "The command was published, but its outcome did not arrive in time. Without an Idempotency-Key nobody can "
            "open that outcome later: reveal the signature to see the one that is valid now."
        )
        raise Problem(504, "OutcomeTimeout", detail, command_id=error.command_id) from None
    if only_once and outcome.repeated:
        detail = (
            "A request with this Idempotency-Key revealed the signature before. Each reveal is an event of its own: "
            "to see the signature again, leave the header out, or send another key."
        )
        raise Problem(409, "SignatureRevealedBefore", detail, command_id=outcome.command_id)
    sealed = await _sealed(command, kind, data, outcome)
    return outcome, None if sealed is None else key.open(sealed)


async def _sealed(command: ChannelCommand, kind: str, data: dict[str, Any], outcome: Outcome) -> str | None:
    """Returns the sealed secret of an outcome, once the access log has that it is shown."""
    sealed = outcome.body.sealed if isinstance(outcome.body, CommandAccepted) else None
    if sealed is not None:
        shown = SecretShown(system=data["system"], key_id=_key_id(outcome), command=kind, command_id=outcome.command_id)
        concerned = Concerned(command.caller.account, command.channel)
        by = actor_of(command.request, command.caller.principal)
        await record(pool_of(command.request), shown, concerned, by)
    return sealed


@router.delete("/signature/{key_id}", **command_route(RevokeSignature, "system", "key_id"))
async def revoke_signature(command: CommandRequest, system: str, key_id: str) -> JSONResponse:
    """Revokes a signature that is in its grace period; calls carry it no more."""
    data = {"system": system, "key_id": key_id}
    return command_response(await command.send("RevokeSignature", data))


@router.get("/signatures", response_model=SignatureList)
@raises("BusinessSystemUnknown")
async def list_signatures(read: ReadRequest, system: str) -> JSONResponse:
    """Lists the valid signatures. ``accepted_at`` is null unless the receiver is known to accept the signature."""
    found = await read.settings()
    signatures = found.system(system).signatures
    proofs = await delivery_log.accepted_signatures(pool_of(read.request), read.caller.account, read.channel, system)
    unknown = {"accepted_at": None, "accepted_how": None, "delivery": None}
    shown = [one.model_dump() | proofs.get(one.key_id, unknown) for one in signatures]
    return JSONResponse({"signatures": shown}, headers=found.headers(f"business-systems/{system}/signature"))


@router.post("/signature/{key_id}/retirement", **command_route(RevokeSignature, "system", "key_id", answer=Retired))
@raises("SignatureIsNewest", "SignatureNotProven")
async def retire_signature(command: JudgedCommand, system: str, key_id: str) -> JSONResponse:
    """Revokes an old signature, provided that the receiver is known to accept the newest one; shows the proof."""
    read = await command.settings()
    proof = await require_proof(command.request, command.caller, read, system, key_id)
    outcome = await command.send("RevokeSignature", {"system": system, "key_id": key_id})
    return command_response(outcome, proof=proof)


async def require_proof(
    request: Request, caller: Caller, read: ReadSettings, system: str, key_id: str
) -> dict[str, Any]:
    """Returns how it shows that the receiver accepts the newest signature, which the old one can go without.

    Raises `Problem`.
    """
    channel = read.settings.channel
    if read.settings.retired:
        raise Problem(410, "ChannelIsRetired", f"Channel {channel!r} is retired: it has no signatures any more.")
    newest = next(signature for signature in read.system(system).signatures if signature.valid_until is None)
    if key_id == newest.key_id:
        raise Problem(409, "SignatureIsNewest", "It is the newest signature; issue another one first.", key_id=key_id)
    proofs = await delivery_log.accepted_signatures(pool_of(request), caller.account, channel, system)
    proof = proofs.get(newest.key_id)
    if proof is None:
        detail = (
            f"Nothing shows yet that the receiver accepts signature {newest.key_id}. Make a test call with it alone, "
            "or let the receiver name the signature that it verified in its response header webhook-key-id."
        )
        raise Problem(409, "SignatureNotProven", detail, key_id=newest.key_id)
    return {"key_id": newest.key_id, **proof}
