"""The form of a request of the console is bounded, in bytes and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from fastapi import Request
from starlette.types import Message

from services.gateway.console import console_request
from services.gateway.console.console_request import read_form
from services.gateway.limits import MAX_BODY_BYTES
from services.gateway.problems import Problem


def posted(chunks: Iterator[bytes]) -> tuple[Request, list[int]]:
    """A request whose body comes in these chunks, and then no more; and the chunks that were read."""
    read: list[int] = []

    async def receive() -> Message:
        chunk = next(chunks, None)
        if chunk is None:
            await asyncio.Event().wait()
        read.append(len(chunk or b""))
        return {"type": "http.request", "body": chunk, "more_body": True}

    return Request({"type": "http", "method": "POST", "headers": []}, receive), read


async def test_no_more_of_a_form_is_read_than_a_body_may_have() -> None:
    request, read = posted(b"a" * 65_536 for _ in range(1_000))
    with pytest.raises(Problem) as refused:
        await read_form(request)
    assert (refused.value.status, refused.value.name) == (413, "BodyTooLarge")
    assert len(read) == MAX_BODY_BYTES // 65_536 + 1


async def test_a_form_that_stays_away_ends_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_request, "BODY_TIMEOUT_S", 0.05)
    request, _ = posted(iter((b"name=",)))
    with pytest.raises(Problem) as refused:
        await read_form(request)
    assert (refused.value.status, refused.value.name) == (408, "RequestTimeout")
