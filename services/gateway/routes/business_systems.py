"""A channel's business systems: list, show, open, edit, delete."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from contracts.business_system import (
    DeleteBusinessSystem,
    DisableBusinessSystem,
    EditBusinessSystem,
    EnableBusinessSystem,
    OpenBusinessSystem,
)
from contracts.settings import BusinessSystemSettings
from contracts.settings_diff import BUSINESS_SYSTEMS
from projections.settings.schemas import BusinessSystemList
from services.gateway.commands import CommandRequest, command_response, command_route
from services.gateway.json_documents import shown
from services.gateway.problem_types import raises
from services.gateway.reads import ConditionalRead, ReadRequest
from services.gateway.requests import pool_of
from services.invoker import delivery_log
from services.invoker.delivery_schemas import SystemHealth

router = APIRouter(prefix="/v1/channels/{channel}/business-systems", tags=["Business systems"])


@router.get("", response_model=BusinessSystemList)
async def list_business_systems(read: ConditionalRead) -> Response:
    """Lists the channel's business systems, each with its signatures and intents."""
    found = await read.settings()
    systems = [shown(system) for system in found.settings.business_systems]
    return read.respond({"business_systems": systems}, found.headers(BUSINESS_SYSTEMS))


@router.get("/{system}", response_model=BusinessSystemSettings)
@raises("BusinessSystemUnknown")
async def get_business_system(read: ConditionalRead, system: str) -> Response:
    """Shows a business system with its signatures and intents."""
    found = await read.settings()
    return read.respond(shown(found.system(system)), found.headers(f"business-systems/{system}"))


@router.get("/{system}/health", response_model=SystemHealth)
@raises("BusinessSystemUnknown")
async def get_health(read: ReadRequest, system: str) -> dict[str, Any]:
    """Shows whether the system's URL is verified (its first 2xx to a signed call), and the state of its circuit.

    Until it is verified, it is called one call at a time, 10 a minute. All is null for a system that is not called yet.
    """
    (await read.settings()).system(system)
    found = await delivery_log.system_health(pool_of(read.request), read.caller.account, read.channel, system)
    unknown = {"verified_at": None, "failures": 0, "failing_since": None, "circuit_open_until": None}
    return {"system": system} | (found or unknown)


@router.put("/{system}", **command_route(OpenBusinessSystem, "system", status=201))
async def open_business_system(command: CommandRequest, system: str) -> JSONResponse:
    """Opens a business system. It takes over the signature that was drafted for it, or gets a new one."""
    data = await command.body(system=system)
    return command_response(await command.send("OpenBusinessSystem", data), 201)


@router.patch("/{system}", **command_route(EditBusinessSystem, "system"))
async def edit_business_system(command: CommandRequest, system: str) -> JSONResponse:
    """Changes the fields that the body has; null clears the remarks, and resets the signature style."""
    data = await command.body(system=system)
    return command_response(await command.send("EditBusinessSystem", data))


@router.delete("/{system}", **command_route(DeleteBusinessSystem, "system", "force"))
async def delete_business_system(
    command: CommandRequest,
    system: str,
    force: bool = False,  # noqa: FBT001, FBT002 -- a query parameter
) -> JSONResponse:
    """Deletes a business system with its intents and signatures."""
    data = {"system": system, "force": force}
    return command_response(await command.send("DeleteBusinessSystem", data))


@router.post("/{system}/disable", **command_route(DisableBusinessSystem, "system"))
async def disable_business_system(command: CommandRequest, system: str) -> JSONResponse:
    """Stops the calls of a business system: they wait until it is enabled again."""
    return command_response(await command.send("DisableBusinessSystem", await command.body(system=system)))


@router.post("/{system}/enable", **command_route(EnableBusinessSystem, "system"))
async def enable_business_system(command: CommandRequest, system: str) -> JSONResponse:
    """Lets the calls of a business system go on."""
    return command_response(await command.send("EnableBusinessSystem", await command.body(system=system)))
