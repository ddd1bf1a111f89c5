"""The history, with what each change was before and after, and its undo with a preview."""

from __future__ import annotations

from typing import Annotated, Any

from asyncpg import DataError
from fastapi import APIRouter, Query
from starlette.responses import Response

from contracts.channel import EditChannel
from contracts.ids import new_id
from projections import history
from projections.history import queries as history_queries
from projections.history.queries import Sought
from services.audit.log.source import Log
from services.audit.settings_files.plan import Permission
from services.audit.settings_files.plan_execution import CommandPlan, describe_rejection, execute_plan
from services.audit.settings_files.undo import UndoPlan, command_at, undo
from services.audit.timeline.sentences import describe_changes
from services.gateway.authentication.caller import require_allowed
from services.gateway.authentication.operations import OPERATIONS, SENT_BY
from services.gateway.authentication.origin import origin_of
from services.gateway.console.channel_view import channel_view, settled, until_history_has
from services.gateway.console.console_request import Console, ConsoleRequest
from services.gateway.console.forms import Form
from services.gateway.console.rendering import url
from services.gateway.console.routing import ConsoleRoute
from services.gateway.log_reads import read_log
from services.gateway.problems import Problem
from services.gateway.reads import snapshot_cursor
from services.gateway.requests import pool_of, publisher_of
from services.gateway.routes.channels import require_own_fields

PAGE = 50
Type = Annotated[str, Query(alias="type")]
_HISTORY = "/channels/{channel}/history"

router = APIRouter(route_class=ConsoleRoute)


@router.get("/history")
async def account_history(console: Console, kind: Type = "", actor: str = "", before: str = "") -> Response:
    found = await _entries(console, console.caller.account, None, kind, actor, before)
    return console.page("history.html", settings=None, view=None, undoing=None, may_compare=False, **found)


@router.get(_HISTORY)
async def channel_history(
    console: Console, channel: str, kind: Type = "", actor: str = "", before: str = ""
) -> Response:
    return await _channel_page(console, channel, kind, actor, before)


async def _channel_page(
    console: ConsoleRequest,
    channel: str,
    kind: str = "",
    actor: str = "",
    before: str = "",
    status: int = 200,
    **undoing: Any,
) -> Response:
    view = await channel_view(console, channel, "history")
    await until_history_has(console, view["settings"])
    found = await _entries(console, view["settings"].account, channel, kind, actor, before)
    may_compare = console.may("GET /console/channels/{channel}/compare")
    return console.page("history.html", status, undoing=undoing or None, may_compare=may_compare, **view | found)


async def _entries(
    console: ConsoleRequest, account: str | None, channel: str | None, kind: str, actor: str, before: str
) -> dict[str, Any]:
    sought = Sought(account, channel, actor or None, (kind,) if kind else (), before=before or None)
    async with pool_of(console.request).acquire() as connection, connection.transaction(isolation="repeatable_read"):
        try:
            entries, following = await history_queries.find(connection, sought, PAGE)
        except (ValueError, DataError):
            raise Problem(400, "ParameterInvalid", "There is no such page of the history.") from None
        cursor = await snapshot_cursor(console.request, connection, history.NAME)
    filters = {"type": kind, "actor": actor, "before": before}
    return {"entries": entries, "following": following, "filters": filters, "cursor": cursor}


@router.get(f"{_HISTORY}/{{version}}/undo")
async def preview_undo(console: Console, channel: str, version: int) -> Response:
    form = Form({"force": False, "international_rates_acknowledged": False})
    return await _preview(console, channel, version, form)


async def _preview(
    console: ConsoleRequest, channel: str, version: int, form: Form, plan: UndoPlan | None = None, status: int = 200
) -> Response:
    values: dict[str, Any] = {"version": version, "form": form, "plan": None, "sentences": []}
    try:
        plan = plan or await _plan(console, channel, version, form)
        values["plan"] = plan
        values["sentences"] = describe_changes(plan.current, plan.target, planned=True)
        if plan.refused is not None and not form.errors:
            form.errors[""] = plan.refused[1].message
    except Problem as problem:
        status = form.reject(problem)
    return await _channel_page(console, channel, status=status, **values)


async def _plan(console: ConsoleRequest, channel: str, version: int, form: Form) -> UndoPlan:
    await channel_view(console, channel, "history")  # another account's channel looks like an unknown one
    permission = Permission(form.values["force"], form.values["international_rates_acknowledged"])
    now = console.request.app.state.now()

    async def query(log: Log) -> UndoPlan:
        return undo(await command_at(log, channel, version), permission, now, since=False)

    return await read_log(console.request, console.caller, query)


@router.post(f"{_HISTORY}/{{version}}/undo")
async def undo_version(console: Console, channel: str, version: int) -> Response:
    form = Form({"force": False, "international_rates_acknowledged": False})
    form.submit(console, {name: console.has(name) for name in form.base})
    try:
        plan = await _plan(console, channel, version, form)
    except Problem:
        return await _preview(console, channel, version, form)
    registered = plan.undone.current.channel
    if registered is None or plan.refused is not None or not plan.commands:
        return await _preview(console, channel, version, form, plan, 409)
    if console.text("seen") != str(registered.version):
        form.errors[""] = "The channel has changed since this preview; here is what the undo would do now."
        return await _preview(console, channel, version, form, plan, 409)
    for command in plan.commands:
        require_allowed(console.caller.principal, OPERATIONS[SENT_BY[type(command).__name__]])
        if isinstance(command, EditChannel):
            require_own_fields(console.caller, command.model_fields_set)
    commands = CommandPlan(channel, registered.account, registered.version, plan.commands)
    result = await execute_plan(
        publisher_of(console.request),
        commands,
        actor=console.caller.actor,
        origin=origin_of(console.request, console.caller.principal),
        correlation_id=f"undo-{version}:{new_id()}",
    )
    if result.refused is not None:
        form.errors[""] = describe_rejection(*result.refused, registered.version)
        return await _preview(console, channel, version, form, None, 409)
    await settled(console, channel, result.version)
    return console.done(url("channels", channel, "history"), f"Version {version} is undone.")
