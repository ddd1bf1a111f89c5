"""Proposed changes: list, propose, approve, decline."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from contracts.proposed_change import ApproveChange, DeclineChange, ProposeChange
from projections.history import proposed_changes as queries
from services.gateway.authentication.caller import Authenticated, Caller, require_allowed
from services.gateway.authentication.operations import OPERATIONS, SENT_BY
from services.gateway.authentication.roles import Role
from services.gateway.commands import CommandRequest, command_response, command_route
from services.gateway.judged_commands import JudgedCommand
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.reads import MinVersion
from services.gateway.requests import pool_of
from services.gateway.routes.history import account_with_history

router = APIRouter(prefix="/v1/channels/{channel}/proposed-changes", tags=["Proposed changes"])


@router.get("", response_model=queries.ProposedChanges)
@raises("ReadModelBehind", "TooManyFollowers")
async def list_proposed_changes(
    request: Request,
    caller: Authenticated,
    channel: str,
    open: Annotated[bool, Query(description="Only those that are neither carried out, declined nor void.")] = False,  # noqa: A002, FBT002 -- a query parameter
    before: Annotated[int | None, Query(ge=0, lt=2**63, description="The `next` of the previous page.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    min_version: MinVersion = None,
) -> JSONResponse:
    """Lists the channel's proposed changes, newest first, with their difference and what became of them."""
    account = await account_with_history(request, caller, channel, min_version)
    changes = await queries.list_changes(
        pool_of(request), account, channel, before=before, only_open=open, limit=limit + 1
    )
    following = changes[limit - 1]["proposed_in"] if len(changes) > limit else None
    return JSONResponse({"changes": changes[:limit], "next": following})


@router.get("/{change}", response_model=queries.ProposedChange)
@raises("ReadModelBehind", "TooManyFollowers", "ChangeUnknown")
async def get_proposed_change(
    request: Request, caller: Authenticated, channel: str, change: str, min_version: MinVersion = None
) -> JSONResponse:
    """Shows a proposed change with its difference and what became of it."""
    account = await account_with_history(request, caller, channel, min_version)
    found = await _find(request, account, channel, change)
    return JSONResponse(found, headers={"ETag": f'"{found["version"]}"'})


@router.post("", **command_route(ProposeChange, status=201))
async def propose_change(command: CommandRequest) -> JSONResponse:
    """Proposes a command. Who may propose it may send it directly, where no approval is needed."""
    data = await command.body()
    proposed = data.get("command")
    operation = SENT_BY.get(str(proposed.get("type"))) if isinstance(proposed, dict) else None
    if operation is not None:  # the decider refuses any other
        require_allowed(command.caller.principal, OPERATIONS[operation])
    return command_response(await command.send("ProposeChange", data), 201)


@router.post("/{change}/approve", **command_route(ApproveChange, "change"))
async def approve_change(command: CommandRequest, change: str) -> JSONResponse:
    """Approves a change of somebody else, which is then carried out, now or at its instant."""
    return command_response(await command.send("ApproveChange", await command.body(change=change)))


@router.post("/{change}/decline", **command_route(DeclineChange, "change"))
async def decline_change(command: JudgedCommand, change: str) -> JSONResponse:
    """Declines a change that is not carried out yet. Without the role `approver`, only one's own."""
    data = await command.body(change=change)
    await require_may_decline(command.request, command.caller, command.channel, change, command.min_version)
    return command_response(await command.send("DeclineChange", data))


async def require_may_decline(
    request: Request, caller: Caller, channel: str, change: str, min_version: int | None = None
) -> None:
    """Raises `Problem` for a change of somebody else, if the caller is no approver."""
    if Role.APPROVER in caller.principal.roles:
        return
    account = await account_with_history(request, caller, channel, min_version)
    found = await _find(request, account, channel, change)
    if found["proposed_by"] != caller.actor:
        raise Problem(403, "Forbidden", "Without the role approver, you decline only what you have proposed.")


async def _find(request: Request, account: str, channel: str, change: str) -> queries.ProposedChange:
    found = await queries.list_changes(pool_of(request), account, channel, change=change)
    if not found:
        raise Problem(404, "ChangeUnknown", f"The channel has no proposed change {change!r}.", change=change)
    return found[0]
