"""What every request uses: the application's connections, and the request's body."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar, get_type_hints

from fastapi import Depends, Request
from pydantic import BaseModel

from contracts.json_values import JsonUnreadable, parse_json
from contracts.kafka.publisher import Publisher
from contracts.kafka.router import Router
from services.gateway.feed.feed import Feed
from services.gateway.limits import Places
from services.gateway.problems import Problem, unavailable
from services.infrastructure.byte_budget import ByteBudget
from services.infrastructure.fair_queue import FairQueue, Turn
from services.infrastructure.postgres import Pool
from services.schema_validation.validator import SchemaValidator

Part = TypeVar("Part", bytes, str)

CONCURRENT_COMMANDS = 16
"""Of a gateway. More at once make each slower and hardly more a second; what waits here waits in turns by account."""
CONCURRENT_COMMANDS_PER_ACCOUNT = 8
COMMANDS_BESIDE_OTHERS = 4
CONCURRENT_WORK = 4
"""Requests that a gateway works on at once, besides those that wait for an outcome, a change or a call. They share one
event loop, which one or two keep busy."""
CONCURRENT_WORK_PER_ACCOUNT = 3
WORK_BESIDE_OTHERS = 1
WAITING_PER_ACCOUNT = 256
"""Requests of one account that wait for their turn, and again commands."""


def command_queue() -> FairQueue:
    """The queue in which commands wait to be published, until their outcomes are there."""
    return FairQueue(CONCURRENT_COMMANDS, CONCURRENT_COMMANDS_PER_ACCOUNT, WAITING_PER_ACCOUNT, COMMANDS_BESIDE_OTHERS)


def schema_queue() -> FairQueue:
    """The queue in which data waits to be checked by the one worker process, which takes what comes first."""
    return FairQueue(CONCURRENT_WORK, 1, WAITING_PER_ACCOUNT)


def what_if_queue() -> FairQueue:
    """The queue of replays of recorded decisions, of which a gateway makes one at a time."""
    return FairQueue(1, 1, 4)


def work_queue(memory: ByteBudget | None = None) -> FairQueue:
    """The queue in which every request waits, before a route begins to work on it."""
    return FairQueue(
        CONCURRENT_WORK, CONCURRENT_WORK_PER_ACCOUNT, WAITING_PER_ACCOUNT, WORK_BESIDE_OTHERS, budget=memory
    )


def built(kind: type[Any]) -> Any:
    """Returns the dependency of a class, whose fields are the parameters. FastAPI would build it in a thread."""

    async def build(**fields: Any) -> Any:
        return kind(**fields)

    types, signature = get_type_hints(kind, include_extras=True), inspect.signature(kind)
    parameters = [one.replace(annotation=types[name]) for name, one in signature.parameters.items()]
    build.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    build.problems = getattr(kind, "problems", ())  # type: ignore[attr-defined]
    return Depends(build)


def pool_of(request: Request) -> Pool:
    pool: Pool = request.app.state.pool
    return pool


def schemas_of(request: Request) -> SchemaValidator:
    schemas: SchemaValidator = request.app.state.schemas
    return schemas


def publisher_of(request: Request) -> Publisher:
    """Returns the publisher. Raises `Problem` while the broker is away."""
    publisher: Publisher | None = request.app.state.publisher
    if publisher is None:
        raise unavailable("broker")
    return publisher


def turn_of(request: Request) -> Turn:
    """Returns the request's turn, to be ended or paused while it waits for something that takes no work of ours."""
    turn: Turn = request.state.turn
    return turn


async def in_turns(turn: Turn, parts: AsyncIterator[Part]) -> AsyncIterator[Part]:
    """The parts of an answer that has begun, each made in a turn of its own, which ends while the client reads it."""
    while True:
        async with turn.another():
            part = await anext(parts, None)
        if part is None:
            return
        yield part


def schema_queue_of(request: Request) -> FairQueue:
    queue: FairQueue = request.app.state.schema_queue
    return queue


def command_queue_of(request: Request) -> FairQueue:
    """Returns the queue in which commands wait for their turn."""
    queue: FairQueue = request.app.state.command_queue
    return queue


def message_router_of(request: Request) -> Router:
    """Returns the client that has messages routed. Raises `Problem` while the broker is away."""
    router: Router | None = request.app.state.message_router
    if router is None:
        raise unavailable("broker")
    return router


def message_queue_of(request: Request) -> FairQueue:
    """Returns the queue of messages: a queue of their own, because one may wait long for its settings."""
    queue: FairQueue = request.app.state.message_queue
    return queue


def feed_of(request: Request) -> Feed:
    """Returns the change feed. Raises `Problem` while the broker is away."""
    feed: Feed | None = request.app.state.feed
    if feed is None:
        raise unavailable("broker")
    return feed


def test_call_of(request: Request, account: str | None) -> AbstractContextManager[None]:
    """Holds the place of a test call until it has ended; None is the platform. Raises `Problem`."""
    places: Places = request.app.state.test_calls
    return places.taken(account)


async def json_body(request: Request, path_parameters: dict[str, str]) -> dict[str, Any]:
    """Returns a command's data: the body, completed with the path's parameters. Raises `Problem`."""
    raw = await request.body()  # complete and bounded: the request guard has read it
    try:
        data = parse_json(raw) if raw else {}
    except JsonUnreadable as error:
        raise Problem(400, "BodyUnreadable", f"The body cannot be read: {error}.") from None
    if not isinstance(data, dict):
        raise Problem(400, "BodyUnreadable", "The body must be a JSON object: the command's data.")
    for name, value in path_parameters.items():
        if data.setdefault(name, value) != value:
            raise Problem(422, "PathContradicted", f"The body's {name!r} differs from the path's; leave it out.")
    return data


def body_schema(model: type[BaseModel], *path_parameters: str) -> dict[str, Any]:
    """Describes a request body for OpenAPI: the model without what the path names."""
    schema = model.model_json_schema()
    schema["properties"] = {name: field for name, field in schema["properties"].items() if name not in path_parameters}
    required = [name for name in schema.pop("required", []) if name not in path_parameters]
    schema |= {"required": required} if required else {}
    return {"requestBody": {"required": bool(required), "content": {"application/json": {"schema": schema}}}}
