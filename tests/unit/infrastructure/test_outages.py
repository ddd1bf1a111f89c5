"""Waiting for the broker or the database."""

from __future__ import annotations

import pytest

from services.infrastructure import outages
from services.infrastructure.outages import NotReady, retry_during_outage


async def test_it_tries_again_during_an_outage_and_raises_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "_RETRY_INTERVAL_S", 0)
    answers: list[Exception | str] = [OSError("away"), NotReady("There is no topic."), "connected", ValueError("wrong")]

    async def connect() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await retry_during_outage(connect, (OSError,), "broker") == "connected"
    with pytest.raises(ValueError, match="wrong"):
        await retry_during_outage(connect, (OSError,), "broker")
