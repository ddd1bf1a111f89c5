"""A session of the console may do what its principal may do, and no more; its requests wait as others do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from fastapi import FastAPI, Request
from starlette.types import Message

from services.gateway.application import application
from services.gateway.authentication import sessions
from services.gateway.authentication.caller import Caller
from services.gateway.authentication.console_operations import CONSOLE_OPERATIONS
from services.gateway.authentication.operations import OPERATIONS, Target
from services.gateway.authentication.roles import PLATFORM, Role, Scope
from services.gateway.authentication.sessions import Session
from services.gateway.console.console_request import ConsoleRequest
from services.gateway.request_guard import RequestGuard
from services.gateway.requests import CONCURRENT_WORK_PER_ACCOUNT, WAITING_PER_ACCOUNT
from services.infrastructure.fair_queue import FairQueue
from services.infrastructure.postgres import Pool
from tests.unit.gateway.console.sessions import session_of

PARAMETERS = {"channel": "ch-1", "system": "crm", "code": "ORDER", "version": "1"} | dict.fromkeys(
    ("delivery", "change", "message", "key", "request_id"), "x"
)


@cache
def _application() -> FastAPI:
    return application(cast("Pool", None))


async def answer(
    page: str, session: Session, monkeypatch: pytest.MonkeyPatch, form: dict[str, str] | None = None
) -> tuple[int, str]:
    """What the page answers without a database: nothing of one is asked before the caller is admitted."""

    async def use(*_: object) -> Session:
        return session

    monkeypatch.setattr(sessions, "use", use)
    method, path = page.split(" ")
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": urlencode(form or {}).encode(), "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path.format(**PARAMETERS),
        "raw_path": b"",
        "query_string": b"",
        "headers": [(b"host", b"here"), (b"origin", b"http://here"), (b"cookie", b"switchboard-session=token")],
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "state": {},
    }
    await _application()(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("page", [page for page in CONSOLE_OPERATIONS if page.startswith("POST")])
async def test_a_page_that_changes_something_needs_the_role(
    page: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of("acme")
    session = replace(session, principal=replace(session.principal, roles=frozenset({role})))
    status, text = await answer(page, session, monkeypatch)
    assert status == 403
    may = role in OPERATIONS[CONSOLE_OPERATIONS[page]].roles
    assert ("This needs the role" in text) is not may
    assert ("This page is from an earlier session" in text) is may  # the next check: the form has no token


@pytest.mark.parametrize("page", [page for page in CONSOLE_OPERATIONS if "{channel}" in page])
async def test_a_channel_outside_of_the_scope_looks_unknown(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of("acme")
    session = replace(session, principal=replace(session.principal, scope=Scope("acme", "another")))
    assert OPERATIONS[CONSOLE_OPERATIONS[page]].target in (Target.CHANNEL, Target.CHANNELS)
    status, text = await answer(page, session, monkeypatch)
    assert (status, "has no channel" in text) == (404, True)


@pytest.mark.parametrize("role", Role)
def test_what_is_offered_is_what_is_allowed(role: Role) -> None:
    session = session_of("acme")
    principal = replace(session.principal, roles=frozenset({role}))
    console = ConsoleRequest(cast("Request", None), session, {}, Caller(principal, "", "acme"))
    for page, operation in CONSOLE_OPERATIONS.items():
        row = OPERATIONS[operation]
        assert console.may(page) is (role in row.roles and row.target is not Target.PLATFORM)


async def test_a_page_waits_for_the_turn_of_whoever_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a request over the API does: an account that has as many waiting as it may is told to come again."""
    page, session = "GET /console/form-token", session_of("acme")
    [guard] = [one for one in cast("list[Any]", _application().user_middleware) if one.cls is RequestGuard]
    queue: FairQueue = guard.kwargs["work"]
    many = [
        asyncio.create_task(queue.acquire("acme")) for _ in range(CONCURRENT_WORK_PER_ACCOUNT + WAITING_PER_ACCOUNT)
    ]
    await asyncio.sleep(0)

    assert (await answer(page, session, monkeypatch))[0] == 429
    operator = replace(session, principal=replace(session.principal, scope=PLATFORM))
    assert (await answer(page, operator, monkeypatch))[0] == 204, "the operator works on the account, and does not pay"
    for _ in many:
        queue.release("acme")
    await asyncio.gather(*many)
    assert (await answer(page, session, monkeypatch))[0] == 204


async def test_the_refresh_icon_of_the_dialog_needs_the_role_of_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    page = "POST /console/channels/{channel}/service-settings/open-business-system"
    session = session_of("acme")
    session = replace(session, principal=replace(session.principal, roles=frozenset({Role.EDITOR})))
    form = {"form_token": session.form_token, "refresh": "1", "api_request_url": "https://crm.example"}
    status, text = await answer(page, session, monkeypatch, form)
    assert (status, "needs the role signature-keeper" in text) == (403, True)
