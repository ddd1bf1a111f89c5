"""The routes under ``/v1``: a body is a command's data, an answer is its outcome, a read is the read model."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from contracts.business_system import EditBusinessSystem, OpenBusinessSystem
from contracts.channel import EditChannel, RegisterChannel
from contracts.envelope import problem_of
from contracts.intent import AddIntent, EditIntent
from contracts.invocation import InvokeIntent
from contracts.message import CommandData
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.outcome import CommandAccepted
from contracts.publisher import Outcome, OutcomeTimeout
from contracts.sealing import plain_token_of
from contracts.settings import BusinessSystemSettings, IntentSettings
from contracts.signature import RefreshSignature
from contracts.sms import ToggleSms
from projections import settings_queries
from services.gateway.delivery_routes import request_call
from services.gateway.problems import Problem
from services.gateway.requests import (
    Authenticated,
    Commanding,
    Reading,
    pool_of,
    read_settings,
    seal_key,
    snapshot_cursor,
)
from services.invoker import deliveries

router = APIRouter(prefix="/v1")

_CHANNEL_FIELDS = {"channel", "account", "channel_type", "name", "provider", "retired", "version"}
_NO_STORE = {"Cache-Control": "no-store"}


def _takes(kind: type[CommandData], *in_path: str) -> dict[str, Any]:
    """The request body in the API description: the command's data less what the path says."""
    schema = kind.model_json_schema()
    schema["properties"] = {name: one for name, one in schema["properties"].items() if name not in in_path}
    schema["required"] = [name for name in schema.get("required", []) if name not in in_path]
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


def _answer(outcome: Outcome, status: int = 200, **more: Any) -> JSONResponse:
    accepted = outcome.body
    if not isinstance(accepted, CommandAccepted):
        raise TypeError("a rejection is a problem, not an answer")
    body: dict[str, Any] = {"command_id": outcome.command_id, "version": accepted.version}
    if accepted.would_append is not None:
        body["would_append"] = [one.model_dump() for one in accepted.would_append]
        status = 200
    else:
        body["events"] = list(accepted.events)
    return JSONResponse(body | more, status, _NO_STORE if more else None)


@router.get("/channels", tags=["channels"])
async def list_channels(
    request: Request, caller: Authenticated, after: str = "", limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """The account's channels, by id, a page at a time; go on with ``after``.

    Changes go on from ``cursor``; from the first page's, where there are more: what a later page has already is told
    by its version.
    """
    async with pool_of(request).acquire() as connection, connection.transaction(isolation="repeatable_read"):
        found = await settings_queries.channels(connection, caller.account, after, limit)
        cursor = await snapshot_cursor(request, connection)
    shown = [
        one.model_dump(include={"channel", "account", "channel_type", "name", "provider", "retired", "version"})
        for one in found
    ]
    page = {"channels": shown, "next": found[-1].channel if len(found) == limit else None}
    return page | {"cursor": None if cursor is None else str(cursor)}


@router.get("/channels/{channel}", tags=["channels"])
async def get_channel(
    reading: Reading,
) -> JSONResponse:
    read = await reading.settings()
    return JSONResponse(read.settings.model_dump(include=_CHANNEL_FIELDS), headers=read.headers("channel"))


@router.put("/channels/{channel}", tags=["channels"], status_code=201, openapi_extra=_takes(RegisterChannel))
async def register_channel(
    commanding: Commanding,
) -> JSONResponse:
    """Registers a channel; for the platform alone, which names the account in ``Switchboard-Account``."""
    if commanding.caller.access.role != "platform":
        raise Problem(403, "Forbidden", "Only the platform registers channels.")
    return _answer(await commanding.send("RegisterChannel", await commanding.body()), 201)


@router.patch("/channels/{channel}", tags=["channels"], openapi_extra=_takes(EditChannel))
async def edit_channel(
    commanding: Commanding,
) -> JSONResponse:
    return _answer(await commanding.send("EditChannel", await commanding.body()))


@router.delete("/channels/{channel}", tags=["channels"])
async def retire_channel(
    commanding: Commanding,
) -> JSONResponse:
    return _answer(await commanding.send("RetireChannel", {}))


@router.get("/channels/{channel}/settings", include_in_schema=False)  # audit_routes has it too, with ?at=
async def get_settings(
    reading: Reading,
) -> JSONResponse:
    """The channel's settings, whole."""
    read = await reading.settings()
    return JSONResponse(read.settings.model_dump(by_alias=True), headers=read.headers())


@router.get("/channels/{channel}/sms", tags=["sms"])
async def get_sms(
    reading: Reading,
) -> JSONResponse:
    read = await reading.settings()
    return JSONResponse(read.settings.sms.model_dump(), headers=read.headers("sms"))


@router.put("/channels/{channel}/sms", tags=["sms"], openapi_extra=_takes(ToggleSms))
async def toggle_sms(
    commanding: Commanding,
) -> JSONResponse:
    return _answer(await commanding.send("ToggleSms", await commanding.body()))


@router.get("/channels/{channel}/otp-scheduling", tags=["otp-scheduling"])
async def get_otp_scheduling(
    reading: Reading,
) -> JSONResponse:
    read = await reading.settings()
    return JSONResponse(read.settings.otp_scheduling.model_dump(), headers=read.headers("otp-scheduling"))


@router.put("/channels/{channel}/otp-scheduling", tags=["otp-scheduling"], openapi_extra=_takes(SaveOtpScheduling))
async def save_otp_scheduling(
    commanding: Commanding,
) -> JSONResponse:
    return _answer(await commanding.send("SaveOtpScheduling", await commanding.body()))


_SYSTEMS = "/channels/{channel}/business-systems"
_SYSTEM = _SYSTEMS + "/{system}"


@router.get(_SYSTEMS, tags=["business systems"])
async def list_business_systems(
    reading: Reading,
) -> JSONResponse:
    read = await reading.settings()
    shown = [one.model_dump(by_alias=True) for one in read.settings.business_systems]
    return JSONResponse({"business_systems": shown}, headers=read.headers())


@router.get(_SYSTEM, tags=["business systems"])
async def get_business_system(
    reading: Reading,
    system: str,
) -> JSONResponse:
    read = await reading.settings()
    found = _system(read.settings.business_systems, system)
    return JSONResponse(found.model_dump(by_alias=True), headers=read.headers(f"business-systems/{system}"))


def _system(systems: tuple[BusinessSystemSettings, ...], system: str) -> BusinessSystemSettings:
    for one in systems:
        if one.system == system:
            return one
    raise Problem(
        404, "BusinessSystemUnknown", f"No business system {system!r} is open on this channel.", system=system
    )


@router.put(_SYSTEM, tags=["business systems"], status_code=201, openapi_extra=_takes(OpenBusinessSystem, "system"))
async def open_business_system(commanding: Commanding, system: str) -> JSONResponse:
    data = await commanding.body(system=system)
    return _answer(await commanding.send("OpenBusinessSystem", data), 201)


@router.patch(_SYSTEM, tags=["business systems"], openapi_extra=_takes(EditBusinessSystem, "system"))
async def edit_business_system(commanding: Commanding, system: str) -> JSONResponse:
    data = await commanding.body(system=system)
    return _answer(await commanding.send("EditBusinessSystem", data))


@router.delete(_SYSTEM, tags=["business systems"])
async def delete_business_system(
    commanding: Commanding,
    system: str,
    force: bool = False,  # noqa: FBT001, FBT002
) -> JSONResponse:
    data = {"system": system, "force": force}
    return _answer(await commanding.send("DeleteBusinessSystem", data))


@router.post(_SYSTEM + "/signature", tags=["signatures"], openapi_extra=_takes(RefreshSignature, "system"))
async def refresh_signature(commanding: Commanding, system: str) -> JSONResponse:
    """Draws a new signature and shows it, once; before the system is open too, for the given API Request URL.

    ``plain_token`` is what calls carry in its place where the system has the plain style.
    """
    data = await commanding.body(system=system)
    return await _with_secret(commanding, "RefreshSignature", data)


@router.get(_SYSTEM + "/signature", tags=["signatures"])
async def reveal_signature(commanding: Commanding, system: str, key_id: str | None = None) -> JSONResponse:
    """Shows a valid signature again; each reveal is an event of its own."""
    data = {"system": system} if key_id is None else {"system": system, "key_id": key_id}
    return await _with_secret(commanding, "RevealSignature", data)


async def _with_secret(commanding: Commanding, kind: str, data: dict[str, Any]) -> JSONResponse:
    if "seal_to" in data:  # the caller opens it: it passes through here closed
        outcome = await commanding.send(kind, data)
        sealed = outcome.body.sealed if isinstance(outcome.body, CommandAccepted) else None
        return _answer(outcome, sealed=sealed)
    key = seal_key(commanding.caller, commanding.options)
    try:
        outcome = await commanding.send(kind, data | {"seal_to": key.seal_to})
    except OutcomeTimeout as error:
        if commanding.options.idempotent:
            raise
        detail = (
            "The command was published but not answered in time, and without an Idempotency-Key nobody can open its "
            "answer later: reveal the signature to see the one that is valid now."
        )
        raise Problem(504, "OutcomeTimeout", detail, command_id=error.command_id) from None
    sealed = outcome.body.sealed if isinstance(outcome.body, CommandAccepted) else None
    if sealed is None:
        return _answer(outcome)
    signature = key.open(sealed)
    return _answer(outcome, signature=signature, plain_token=plain_token_of(signature))


@router.delete(_SYSTEM + "/signature/{key_id}", tags=["signatures"])
async def revoke_signature(commanding: Commanding, system: str, key_id: str) -> JSONResponse:
    data = {"system": system, "key_id": key_id}
    return _answer(await commanding.send("RevokeSignature", data))


_INTENTS = _SYSTEM + "/intents"
_INTENT = _INTENTS + "/{code}"


@router.get(_INTENTS, tags=["intents"])
async def list_intents(
    reading: Reading,
    system: str,
) -> JSONResponse:
    read = await reading.settings()
    found = _system(read.settings.business_systems, system)
    shown = [one.model_dump(by_alias=True) for one in found.intents]
    return JSONResponse({"intents": shown}, headers=read.headers(f"business-systems/{system}"))


@router.get(_INTENT, tags=["intents"])
async def get_intent(
    reading: Reading,
    system: str,
    code: str,
) -> JSONResponse:
    read = await reading.settings()
    found = _intent(_system(read.settings.business_systems, system), code)
    return JSONResponse(
        found.model_dump(by_alias=True), headers=read.headers(f"business-systems/{system}/intents/{code}")
    )


def _intent(system: BusinessSystemSettings, code: str) -> IntentSettings:
    for one in system.intents:
        if one.code == code:
            return one
    detail = f"Business system {system.system!r} has no intent {code!r}."
    raise Problem(404, "IntentUnknown", detail, system=system.system, code=code)


@router.put(_INTENT, tags=["intents"], status_code=201, openapi_extra=_takes(AddIntent, "system", "code"))
async def add_intent(commanding: Commanding, system: str, code: str) -> JSONResponse:
    data = await commanding.body(system=system, code=code)
    return _answer(await commanding.send("AddIntent", data), 201)


@router.patch(_INTENT, tags=["intents"], openapi_extra=_takes(EditIntent, "system", "code"))
async def edit_intent(commanding: Commanding, system: str, code: str) -> JSONResponse:
    data = await commanding.body(system=system, code=code)
    return _answer(await commanding.send("EditIntent", data))


@router.delete(_INTENT, tags=["intents"])
async def delete_intent(
    commanding: Commanding,
    system: str,
    code: str,
    force: bool = False,  # noqa: FBT001, FBT002
) -> JSONResponse:
    data = {"system": system, "code": code, "force": force}
    return _answer(await commanding.send("DeleteIntent", data))


_INVOCATIONS = "/channels/{channel}/invocations"


@router.post(_INVOCATIONS, tags=["invocations"], status_code=202, openapi_extra=_takes(InvokeIntent))
async def invoke_intent(
    commanding: Commanding,
    wait: Annotated[float, Query(ge=0, le=30)] = 0,
) -> JSONResponse:
    """Asks for an intent to be called. 202 with the request's id; with ``wait`` (seconds), 200 with how it ended.

    A dry run says what would become of it, and calls nobody.
    """
    account, channel = commanding.caller.required_account(), commanding.channel
    await read_settings(commanding.request, commanding.caller, channel, None)
    try:
        asked = InvokeIntent.model_validate(await commanding.body())
    except ValidationError as error:
        raise Problem(422, "InvalidCommand", problem_of(error)) from None
    if commanding.options.dry_run:
        return JSONResponse(await deliveries.judged(pool_of(commanding.request), account, channel, asked))
    request_id, found = await request_call(commanding, asked, wait)
    ended = found is not None and found["ended_at"] is not None
    return JSONResponse({"request_id": request_id, "delivery": found}, 200 if ended else 202)


@router.get(_INVOCATIONS, tags=["invocations"])
async def list_invocations(
    request: Request, caller: Authenticated, channel: str, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """The channel's signed calls, newest first, with every attempt."""
    await read_settings(request, caller, channel, None)
    return {"invocations": await deliveries.of_channel(pool_of(request), channel, limit)}
