"""Proposed changes: their difference, and their approval by a second person."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from contracts.ids import new_id
from projections.history import proposed_changes as queries
from services.gateway.console.catalogue import _
from services.gateway.console.channel_view import channel_view, settled, until_history_has
from services.gateway.console.console_request import Console, ConsoleRequest
from services.gateway.console.rendering import url
from services.gateway.console.routing import ConsoleRoute
from services.gateway.problems import Problem
from services.gateway.requests import pool_of
from services.gateway.routes.proposed_changes import require_may_decline

VIEW = "proposed-changes"
PAGE = 25
_CHANGES = f"/channels/{{channel}}/{VIEW}"
_COMMANDS = {
    "RefreshSignature": _("Refresh a signature"),
    "RevokeSignature": _("Revoke a signature"),
    "SaveOtpScheduling": _("Save OTP delivery scheduling"),
    "OpenBusinessSystem": _("Open a business system"),
    "EditBusinessSystem": _("Edit a business system"),
    "DeleteBusinessSystem": _("Delete a business system"),
    "EnableBusinessSystem": _("Enable a business system"),
    "RetireChannel": _("Retire the channel"),
    "SaveApprovals": _("Save what needs an approval"),
}

router = APIRouter(route_class=ConsoleRoute)


@router.get(_CHANGES)
async def proposed_changes(console: Console, channel: str, show: str = "", before: str = "") -> Response:
    """``show=all`` has those too that are carried out, declined or void."""
    if before and not (before.isascii() and before.isdigit() and len(before) < 19):
        raise Problem(400, "ParameterInvalid", _("There is no such page of the proposed changes."))
    view = await _view(console, channel)
    found = await queries.list_changes(
        pool_of(console.request),
        view["settings"].account,
        channel,
        before=int(before) if before else None,
        only_open=show != "all",
        limit=PAGE + 1,
    )
    following = found[PAGE - 1]["proposed_in"] if len(found) > PAGE else None
    page = url("channels", channel, VIEW, show=show, before=before)
    values = {"changes": found[:PAGE], "following": following, "show": show, "one": False, "page": page}
    return _page(console, view | values)


@router.get(f"{_CHANGES}/{{change}}")
async def proposed_change(console: Console, channel: str, change: str) -> Response:
    return await _one(console, channel, change)


@router.post(f"{_CHANGES}/{{change}}/approve")
async def approve(console: Console, channel: str, change: str) -> Response:
    return await _decide(console, channel, change, "ApproveChange", _("The change is approved."))


@router.post(f"{_CHANGES}/{{change}}/decline")
async def decline(console: Console, channel: str, change: str) -> Response:
    await require_may_decline(console.request, console.caller, channel, change)
    return await _decide(console, channel, change, "DeclineChange", _("The change is declined."))


async def _decide(console: ConsoleRequest, channel: str, change: str, command: str, announcement: str) -> Response:
    comment = console.text("comment")
    data = {"change": change} | ({"comment": comment} if comment else {})
    try:
        outcome = await console.command(channel).send(command, data)
    except Problem as problem:
        if problem.status not in (409, 410, 412, 422):
            raise
        return await _one(console, channel, change, problem.status, problem.detail, comment)
    await settled(console, channel, outcome.version)
    return console.done(url("channels", channel, VIEW, change), announcement)


async def _one(
    console: ConsoleRequest, channel: str, change: str, status: int = 200, refused: str = "", comment: str = ""
) -> Response:
    view = await _view(console, channel)
    found = await queries.list_changes(pool_of(console.request), view["settings"].account, channel, change=change)
    if not found:
        raise Problem(404, "ChangeUnknown", f"The channel has no proposed change {change[:128]!r}.")
    page = url("channels", channel, VIEW, change)
    values = {"changes": found, "following": None, "show": "all", "one": True, "page": page}
    return _page(console, view | values, status, refused, comment)


async def _view(console: ConsoleRequest, channel: str) -> dict[str, Any]:
    """The channel, once its history is as new as its settings."""
    view = await channel_view(console, channel, VIEW)
    await until_history_has(console, view["settings"])
    return view


def _page(
    console: ConsoleRequest, values: dict[str, Any], status: int = 200, refused: str = "", comment: str = ""
) -> Response:
    return console.page(
        "proposed_changes.html",
        status,
        commands=_COMMANDS,
        command_id=new_id(),
        actor=console.caller.actor,
        may_approve=console.may(f"POST /console{_CHANGES}/{{change}}/approve"),
        may_decline=console.may(f"POST /console{_CHANGES}/{{change}}/decline"),
        refused=refused,
        comment=comment,
        **values,
    )
