"""Compares the routes with the table of operations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from services.gateway.authentication.caller import authenticated
from services.gateway.authentication.console_operations import CONSOLE_OPERATIONS, OPEN_PAGES
from services.gateway.authentication.operations import OPERATIONS


class UncheckedRoute(Exception):
    """A route of the API or the console has no row, or does not ask who calls; or a row has no route."""


def check_routes(app: FastAPI, session_dependency: Callable[..., Any]) -> None:
    """Raises `UncheckedRoute`. ``session_dependency`` is what every page of the console asks who is logged on."""
    _compare(dict(_routes(app, "/v1")), OPERATIONS.keys(), authenticated)
    pages = {name: route for name, route in _routes(app, "/console") if name not in OPEN_PAGES}
    _compare(pages, CONSOLE_OPERATIONS.keys(), session_dependency)


def _compare(routes: dict[str, APIRoute], rows: Collection[str], dependency: Callable[..., Any]) -> None:
    if missing := sorted(routes.keys() - set(rows)):
        raise UncheckedRoute(f"The table of operations needs a row, which says who may, for {', '.join(missing)}.")
    if extra := sorted(set(rows) - routes.keys()):
        raise UncheckedRoute(f"There is no route for these rows of the table of operations: {', '.join(extra)}.")
    if unchecked := sorted(name for name, route in routes.items() if not _has(route.dependant, dependency)):
        raise UncheckedRoute(f"These routes do not ask who calls: {', '.join(unchecked)}.")


def _routes(app: FastAPI, prefix: str) -> Iterator[tuple[str, APIRoute]]:
    for context in iter_route_contexts(app.routes):
        path, route = context.path_format or "", context.original_route
        if isinstance(route, APIRoute) and path.startswith(prefix):
            for method in route.methods or ():
                yield f"{method} {path}", route


def _has(dependant: Dependant, dependency: Callable[..., Any]) -> bool:
    return dependant.call is dependency or any(_has(one, dependency) for one in dependant.dependencies)
