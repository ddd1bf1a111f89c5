"""A business system's intents: list, show, add, edit, delete, and the message templates that refer to them."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from contracts.intent import AddIntent, DeleteIntent, EditIntent, ReferToIntent, ReleaseIntent
from contracts.settings import IntentSettings
from projections.settings.schemas import IntentList
from services.gateway.commands import CommandRequest, command_response, command_route
from services.gateway.json_documents import shown
from services.gateway.problem_types import raises
from services.gateway.reads import ConditionalRead

router = APIRouter(prefix="/v1/channels/{channel}/business-systems/{system}/intents", tags=["Intents"])


@router.get("", response_model=IntentList)
@raises("BusinessSystemUnknown")
async def list_intents(read: ConditionalRead, system: str) -> Response:
    """Lists the business system's intents."""
    found = await read.settings()
    intents = [shown(intent) for intent in found.system(system).intents]
    return read.respond({"intents": intents}, found.headers(f"business-systems/{system}/intents"))


@router.get("/{code}", response_model=IntentSettings)
@raises("BusinessSystemUnknown", "IntentUnknown")
async def get_intent(read: ConditionalRead, system: str, code: str) -> Response:
    """Shows an intent with the message templates that refer to it."""
    found = await read.settings()
    return read.respond(shown(found.intent(system, code)), found.headers(f"business-systems/{system}/intents/{code}"))


@router.put("/{code}", **command_route(AddIntent, "system", "code", status=201))
async def add_intent(command: CommandRequest, system: str, code: str) -> JSONResponse:
    """Adds an intent. Its default data must satisfy its schema."""
    data = await command.body(system=system, code=code)
    return command_response(await command.send("AddIntent", data), 201)


@router.patch("/{code}", **command_route(EditIntent, "system", "code"))
async def edit_intent(command: CommandRequest, system: str, code: str) -> JSONResponse:
    """Changes the fields that the body has; null removes the schema, and empties the default data."""
    data = await command.body(system=system, code=code)
    return command_response(await command.send("EditIntent", data))


@router.delete("/{code}", **command_route(DeleteIntent, "system", "code", "force"))
async def delete_intent(
    command: CommandRequest,
    system: str,
    code: str,
    force: bool = False,  # noqa: FBT001, FBT002 -- a query parameter
) -> JSONResponse:
    """Deletes an intent."""
    data = {"system": system, "code": code, "force": force}
    return command_response(await command.send("DeleteIntent", data))


@router.put("/{code}/references/{template}", **command_route(ReferToIntent, "system", "code", "template"))
async def refer_to_intent(command: CommandRequest, system: str, code: str, template: str) -> JSONResponse:
    """Records that a message template uses the intent, which then is not deleted unless forced."""
    data = {"system": system, "code": code, "template": template}
    return command_response(await command.send("ReferToIntent", data))


@router.delete("/{code}/references/{template}", **command_route(ReleaseIntent, "system", "code", "template"))
async def release_intent(command: CommandRequest, system: str, code: str, template: str) -> JSONResponse:
    """Records that a message template does not use the intent any more."""
    data = {"system": system, "code": code, "template": template}
    return command_response(await command.send("ReleaseIntent", data))
