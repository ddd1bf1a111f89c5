"""The panel Intent settings, and the dialogs that add, edit and delete an intent."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from contracts.json_values import JsonUnreadable, parse_json
from services.gateway.console.catalogue import _
from services.gateway.console.changes import changes_since
from services.gateway.console.console_request import Console, ConsoleRequest
from services.gateway.console.forms import Form
from services.gateway.console.rendering import pretty
from services.gateway.console.routing import ConsoleRoute
from services.gateway.console.views.business_systems import SYSTEMS
from services.gateway.console.views.service_settings import channel_read, saved, service_settings
from services.gateway.problems import Problem
from services.gateway.reads import ReadSettings

_PANEL = f"{SYSTEMS}/{{system}}/intents"
_EMPTY = {"code": "", "name": "", "default_data": "{}", "schema": ""}

router = APIRouter(route_class=ConsoleRoute)


@router.get(_PANEL)
async def intent_settings(console: Console, channel: str, system: str) -> Response:
    read = await channel_read(console, channel)
    return await service_settings(console, channel, "intent_settings", read=read, system=read.system(system))


@router.get(f"{_PANEL}/add")
async def add_dialog(console: Console, channel: str, system: str) -> Response:
    read = await channel_read(console, channel)
    return await _dialog(console, channel, read, system, Form(_EMPTY))


@router.post(f"{_PANEL}/add")
async def add_intent(console: Console, channel: str, system: str) -> Response:
    """Adds the intent. With ``check`` it only asks whether the data would be accepted."""
    read = await channel_read(console, channel)
    form = Form(_EMPTY)
    form.submit(console, {name: console.text(name) for name in _EMPTY})
    data = _command_data(form)
    status, checks = 422, console.has("check")
    if not form.errors:
        try:
            command = console.command(channel, dry_run=checks)
            outcome = await command.send("AddIntent", {"system": system} | data)
            if not checks:
                return await saved(
                    console, channel, outcome, _("The intent is added."), "business-systems", system, "intents"
                )
            status = 200
        except Problem as problem:
            status = form.reject(problem)
    if checks:  # what is not typed yet is not wrong yet
        form.errors = {name: form.errors[name] for name in ("default_data", "schema") if name in form.errors}
        status = 200
    return await _dialog(console, channel, read, system, form, status=status)


def _command_data(form: Form) -> dict[str, Any]:
    """The command's data; what is no JSON is an error of its field."""
    data: dict[str, Any] = {name: form.values[name] for name in ("code", "name") if name in form.values}
    for name in ("default_data", "schema"):
        text = form.values[name].strip()
        if not text:
            if name == "schema":
                data["schema"] = None
            else:
                form.errors[name] = _("Default Intent Data must be a JSON object; {} is an empty one.")
            continue
        try:
            data[name] = parse_json(text.encode())
        except JsonUnreadable as error:
            form.errors[name] = _("This cannot be read as JSON: %(error)s.") % {"error": error}
    return data


async def _dialog(
    console: ConsoleRequest,
    channel: str,
    read: ReadSettings,
    system: str,
    form: Form,
    code: str = "",
    status: int = 200,
) -> Response:
    return await service_settings(
        console, channel, "intent", status, read=read, form=form, system=read.system(system), code=code
    )


def _edit_form(read: ReadSettings, system: str, code: str) -> Form:
    intent = read.intent(system, code)
    schema = "" if intent.json_schema is None else pretty(intent.json_schema)
    values = {"name": intent.name, "default_data": pretty(intent.default_data), "schema": schema}
    return Form(values, read.versions.of(f"business-systems/{system}/intents/{code}"))


@router.get(f"{_PANEL}/{{code}}/edit")
async def edit_dialog(console: Console, channel: str, system: str, code: str) -> Response:
    read = await channel_read(console, channel)
    return await _dialog(console, channel, read, system, _edit_form(read, system, code), code)


@router.post(f"{_PANEL}/{{code}}/edit")
async def edit_intent(console: Console, channel: str, system: str, code: str) -> Response:
    read = await channel_read(console, channel)
    current = _edit_form(read, system, code)
    form = Form(current.base, current.version)
    form.submit(console, {name: console.text(name) for name in current.base} | {"force": console.has("force")})
    data = _command_data(form)
    status, overtaken = 422, console.has("news") or console.has("take") or console.has("keep")
    checks = console.has("check")
    if not form.errors and not overtaken:
        try:
            changed = {name: value for name, value in data.items() if form.values[name] != form.base.get(name)}
            command = console.command(channel, expected_version=form.version, dry_run=checks)
            sent = {"system": system, "code": code} | changed | ({"force": True} if form.values["force"] else {})
            outcome = await command.send("EditIntent", sent)
            if not checks:
                return await saved(
                    console, channel, outcome, _("The intent is saved."), "business-systems", system, "intents"
                )
        except Problem as problem:
            overtaken = problem.name == "VersionConflict"
            status = 412 if overtaken else form.reject(problem)
    if overtaken:
        form.changed_by = await changes_since(
            console, channel, f"business-systems/{system}/intents/{code}", form.version
        )
        form.merge(current.base, current.version)
        status = 200 if console.has("news") else 412
    return await _dialog(console, channel, read, system, form, code, 200 if checks else status)


@router.get(f"{_PANEL}/{{code}}/delete")
async def delete_dialog(console: Console, channel: str, system: str, code: str) -> Response:
    read = await channel_read(console, channel)
    return await _delete_dialog(console, channel, read, system, code, Form({"force": False}))


@router.post(f"{_PANEL}/{{code}}/delete")
async def delete_intent(console: Console, channel: str, system: str, code: str) -> Response:
    read = await channel_read(console, channel)
    form = Form({"force": False})
    form.submit(console, {"force": console.has("force")})
    try:
        data = {"system": system, "code": code, "force": form.values["force"]}
        outcome = await console.command(channel).send("DeleteIntent", data)
    except Problem as problem:
        return await _delete_dialog(console, channel, read, system, code, form, form.reject(problem))
    return await saved(console, channel, outcome, _("The intent is deleted."), "business-systems", system, "intents")


async def _delete_dialog(
    console: ConsoleRequest, channel: str, read: ReadSettings, system: str, code: str, form: Form, status: int = 200
) -> Response:
    return await service_settings(
        console,
        channel,
        "delete_intent",
        status,
        read=read,
        form=form,
        system=read.system(system),
        intent=read.intent(system, code),
    )
