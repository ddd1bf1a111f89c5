"""API keys: who may do what; made and rotated, with the token shown once, and revoked."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from contracts.envelope import validation_message
from services.gateway.authentication import api_keys
from services.gateway.authentication.roles import Role
from services.gateway.console.catalogue import _
from services.gateway.console.console_request import Console, ConsoleRequest
from services.gateway.console.forms import Form
from services.gateway.console.rendering import url
from services.gateway.console.routing import ConsoleRoute
from services.gateway.problems import Problem
from services.gateway.requests import pool_of
from services.gateway.routes.api_keys import NewApiKey, Rotation, create_key, reach, revoke_key, rotate_key

_KEYS = "/api-keys"
_ROLES = {
    Role.VIEWER: _("reads settings, history, deliveries and messages"),
    Role.EDITOR: _("changes settings, and sends calls again"),
    Role.SIGNATURE_KEEPER: _("draws, sees and retires signatures, and makes test calls"),
    Role.AUDITOR: _("reads the log itself, and who saw what"),
    Role.APPROVER: _("approves and declines proposed changes"),
    Role.DEVELOPER: _("triggers intents as tests, and listens for them on a machine of one's own"),
    Role.ADMINISTRATOR: _("makes and revokes keys, and chooses what needs an approval"),
}

router = APIRouter(route_class=ConsoleRoute)


@router.get(_KEYS)
async def keys(console: Console) -> Response:
    return await _page(console, _form())


@router.post(_KEYS)
async def create(console: Console) -> Response:
    form = _form()
    form.submit(
        console,
        {
            "label": console.text("label").strip(),
            "roles": [role for role in Role if role in console.form.get("roles", [])],
            "channel": console.text("channel").strip(),
            "networks": console.text("networks").strip(),
            "expires_at": console.text("expires_at").strip(),
        },
    )
    try:
        token = await create_key(console.request, console.caller, _asked(console, form))
    except Problem as problem:
        form.errors[""] = problem.detail
        if problem.status not in (403, 409, 422):
            raise
        return await _page(console, form, 422)
    return await _page(console, _form(), token=token)


def _form() -> Form:
    return Form({"label": "", "roles": [], "channel": "", "networks": "", "expires_at": ""})


def _asked(console: ConsoleRequest, form: Form) -> NewApiKey:
    """A key for the account, or for one channel of it; for a provider's console, for the provider."""
    given: dict[str, Any] = {"label": form.values["label"], "roles": list(form.values["roles"])}
    if form.values["channel"]:
        given |= {"scope": "channel", "channel": form.values["channel"]}
    elif console.caller.scope.kind == "provider":
        given |= {"scope": "provider", "provider": console.caller.scope.provider}
    if form.values["networks"]:
        given["networks"] = form.values["networks"].replace(",", " ").split()
    if form.values["expires_at"]:
        given["expires_at"] = f"{form.values['expires_at']}:00Z"
    try:
        return NewApiKey.model_validate(given)
    except ValidationError as error:
        raise Problem(422, "ApiKeyInvalid", validation_message(error)) from None


@router.post(f"{_KEYS}/{{key}}/revoke")
async def revoke(console: Console, key: str) -> Response:
    await revoke_key(console.request, console.caller, key)
    return console.done(url("api-keys"), _("The key is revoked."))


@router.post(f"{_KEYS}/{{key}}/rotation")
async def rotate(console: Console, key: str) -> Response:
    """The old key stays valid for a day, so that whoever uses it can take the new one."""
    try:
        token = await rotate_key(console.request, console.caller, key, Rotation())
    except Problem as problem:
        if problem.status not in (403, 409):
            raise
        form = _form()
        form.errors[""] = problem.detail
        return await _page(console, form, 422)
    return await _page(console, _form(), token=token)


async def _page(console: ConsoleRequest, form: Form, status: int = 200, token: str = "") -> Response:
    found = await api_keys.list_keys(pool_of(console.request), reach(console.caller))
    return console.page(
        "api_keys.html",
        status,
        secret=bool(token),
        settings=None,
        view=None,
        keys=[key.as_json() for key in found],
        form=form,
        token=token,
        roles=_ROLES,
        now=console.request.app.state.now(),
    )
