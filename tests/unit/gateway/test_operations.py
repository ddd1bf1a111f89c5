"""The table of operations: every route has a row, which the API's description and the manual repeat."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant

from contracts.message_types import COMMANDS
from services.gateway.application import application
from services.gateway.authentication import route_check
from services.gateway.authentication.caller import Authenticated
from services.gateway.authentication.console_operations import CONSOLE_OPERATIONS
from services.gateway.authentication.operations import OPERATIONS, SENT_BY, Operation, Target
from services.gateway.authentication.roles import ALL_ROLES
from services.gateway.authentication.route_check import UncheckedRoute, _routes, check_routes
from services.gateway.console.console_request import console_request
from services.infrastructure.postgres import Pool

MANUAL = Path(__file__).parents[3] / "docs" / "access.md"
ROW = Operation(ALL_ROLES, Target.SCOPE)


def app() -> FastAPI:
    return application(cast("Pool", None))


def test_a_route_without_a_row_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = {name: row for name, row in OPERATIONS.items() if name != "GET /v1/channels"}
    monkeypatch.setattr(route_check, "OPERATIONS", fewer)
    with pytest.raises(UncheckedRoute, match="needs a row, which says who may, for GET /v1/channels"):
        app()


def test_a_row_without_a_route_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_check, "OPERATIONS", OPERATIONS | {"GET /v1/chanels": ROW})
    with pytest.raises(UncheckedRoute, match="no route for these rows of the table of operations: GET /v1/chanels"):
        app()


def test_a_route_that_does_not_ask_who_calls_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = FastAPI()
    monkeypatch.setattr(route_check, "OPERATIONS", {"GET /v1/asks": ROW, "GET /v1/does-not": ROW})

    @plain.get("/v1/asks")
    async def asks(caller: Authenticated) -> str:
        return caller.actor

    @plain.get("/v1/does-not")
    async def does_not() -> str:
        return ""

    with pytest.raises(UncheckedRoute, match="do not ask who calls: GET /v1/does-not"):
        check_routes(plain, console_request)


@pytest.mark.parametrize("page", ["GET /console/channels", "POST /console/channels/{channel}/service-settings/sms"])
def test_a_page_of_the_console_without_a_row_is_not_served(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = {name: operation for name, operation in CONSOLE_OPERATIONS.items() if name != page}
    monkeypatch.setattr(route_check, "CONSOLE_OPERATIONS", fewer)
    with pytest.raises(UncheckedRoute, match=f"needs a row, which says who may, for {re.escape(page)}"):
        app()


def test_the_rows_of_the_console_name_operations() -> None:
    assert set(CONSOLE_OPERATIONS.values()) <= OPERATIONS.keys()


def test_the_api_description_names_the_roles() -> None:
    paths = app().openapi()["paths"]
    for name, row in OPERATIONS.items():
        method, path = name.split(" ")
        described = paths[path][method.lower()]
        assert described["security"] == [{"bearer": [role]} for role in sorted(row.roles)], name
        assert described["x-switchboard-target"] == row.target.value


def test_the_manual_has_the_table() -> None:
    rows = [line for line in MANUAL.read_text().splitlines() if line.startswith(("| `GET", "| `P", "| `DELETE"))]
    expected = [f"| `{name}` | {roles(row)} | {row.target.name.lower()} |" for name, row in OPERATIONS.items()]
    assert rows == expected, "docs/access.md needs these rows:\n" + "\n".join(expected)


def roles(row: Operation) -> str:
    return "any" if row.roles == ALL_ROLES else ", ".join(sorted(row.roles))


def test_every_command_names_the_operation_that_sends_it() -> None:
    sent = {
        f"{method.upper()} {path}": operation.get("x-switchboard-command")
        for path, methods in app().openapi()["paths"].items()
        for method, operation in methods.items()
    }
    assert {sent[operation]: operation for operation in SENT_BY.values()} == SENT_BY
    assert SENT_BY.keys() == COMMANDS.keys() - {"ApplyChange"}, "the decider alone sends ApplyChange"


def test_no_route_waits_for_a_thread() -> None:
    """FastAPI calls in a thread what is no ``async def``, a class too: on a busy machine that costs milliseconds."""

    def functions(dependant: Dependant) -> Iterator[Any]:
        yield dependant.call
        for one in dependant.dependencies:
            yield from functions(one)

    built = app()
    found = {
        call for prefix in ("/v1", "/console") for _, one in _routes(built, prefix) for call in functions(one.dependant)
    }
    in_threads = [one for one in found if not iscoroutinefunction(one) and not iscoroutinefunction(type(one).__call__)]
    assert in_threads == []
