"""A request that fails on our side leaves one log line; a caller's mistake leaves none."""

from __future__ import annotations

from contextlib import suppress

import pytest
from fastapi import FastAPI
from starlette.types import Message
from structlog.testing import capture_logs

from contracts.kafka.errors import OutcomeTimeout, PublisherError
from services.gateway import problems
from services.gateway.problems import Problem


async def status_of(error: Exception) -> int:
    """The status with which an application responds whose one route raises the error."""
    app = FastAPI()
    problems.install(app, lambda _: "GET")

    @app.get("/fails")
    async def fails() -> None:
        raise error

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/fails", "query_string": b"key=secret", "headers": []}
    with suppress(ZeroDivisionError):  # raised again for the server's log
        await app(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("error", "status", "problem"),
    [
        (Problem(504, "ReadModelBehind", "The read model is behind."), 504, "ReadModelBehind"),
        (OutcomeTimeout("c-1", 10.0), 504, "OutcomeTimeout"),
        (PublisherError("away"), 503, "Unavailable"),
        (ZeroDivisionError(), 500, "Fault"),
    ],
)
async def test_a_failure_of_ours_is_logged_once(error: Exception, status: int, problem: str) -> None:
    with capture_logs() as logs:
        assert await status_of(error) == status
    (line,) = logs
    assert (line["event"], line["path"], line["status"], line["problem"]) == (
        "request failed",
        "/fails",
        status,
        problem,
    )
    assert "secret" not in str(line)


async def test_a_mistake_of_the_caller_is_not_logged() -> None:
    with capture_logs() as logs:
        assert await status_of(Problem(404, "ChannelUnknown", "No such channel.")) == 404
    assert logs == []
