"""Audits run beside the event loop: shares by account, a time limit, and an end when the client leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from contracts import topics
from contracts.bounded_json import compact_json
from contracts.settings import BusinessSystemSettings, ChannelSettings, IntentSettings
from services.audit.log.copied_log import CopiedLog, CopiedRecord
from services.audit.log.errors import AuditError
from services.audit.log.source import Log, LogPosition
from services.audit.timeline.settings_at import LATEST, SettingsAt
from services.domain.state import ChannelState
from services.gateway import log_reads
from services.gateway.log_reads import LogReads, encode_answer
from services.gateway.problems import Problem
from services.gateway.routes.audit import require_comparable
from tests.audit import copy_of


@pytest.fixture
def log(tmp_path: Path) -> CopiedLog:
    return copy_of(tmp_path / "log.jsonl", [CopiedRecord(topics.EVENTS.name, 0, 0, 0, b"ch-1", b"{}", ())])


def reads_of(log: Log, max_read_s: float = 20.0, max_wait_s: float = 5.0) -> LogReads:
    @asynccontextmanager
    async def open_log() -> AsyncIterator[Log]:
        yield log

    return LogReads(open_log, max_read_s, max_wait_s)


async def stays() -> bool:
    return False


async def test_twenty_requests_of_one_account_leave_another_its_turn(log: CopiedLog) -> None:
    reads, go = reads_of(log), Event()

    async def slow(_: Log) -> str:
        while not go.is_set():  # noqa: ASYNC110 -- of another thread
            await asyncio.sleep(0.01)
        return "slow"

    async def quick(log: Log) -> int:
        return len(await log.offset_ranges(topics.EVENTS.name))

    crowd = [asyncio.create_task(reads.run("crowd", slow, stays)) for _ in range(20)]
    await asyncio.sleep(0.05)
    try:
        assert await asyncio.wait_for(reads.run("other", quick, stays), 3) == 1
    finally:
        go.set()
    answers = await asyncio.gather(*crowd, return_exceptions=True)
    refused = [one.name for one in answers if isinstance(one, Problem)]
    assert refused == ["AuditsBusy"] * 15
    assert answers.count("slow") == 5


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_read_ends_with_its_time_or_its_client(log: CopiedLog, leaves: bool) -> None:  # noqa: FBT001 -- a case
    reads, ended = reads_of(log, max_read_s=20.0 if leaves else 0.3), Event()

    async def endless(_: Log) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def left() -> bool:
        return leaves

    with pytest.raises(Problem) as refused:
        await reads.run("acme", endless, left)
    assert refused.value.name == ("ClientLeft" if leaves else "AuditTooLong")
    assert await asyncio.to_thread(ended.wait, 5), "the thread goes on"


async def test_the_event_loop_goes_on_while_an_audit_computes(log: CopiedLog) -> None:
    async def computes(_: Log) -> None:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            pass

    running = asyncio.create_task(reads_of(log).run("acme", computes, stays))
    turns = 0
    while not running.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert turns > 10


def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reads, "MAX_ANSWER_BYTES", 10)
    assert encode_answer({"a": 1}) == b'{"a":1}'
    with pytest.raises(AuditError, match="The answer has 13 bytes; at most 10 are sent over HTTP"):
        encode_answer({"a": "12345"})


@pytest.mark.parametrize("answer", [{}, {"a": []}, {"a": [1, {"b": "ü"}], "c": {"d": [None]}, "e": 1.5}, [1], None])
def test_an_answer_is_encoded_in_pieces_as_it_is_in_one(answer: object) -> None:
    assert encode_answer(answer) == compact_json(answer).encode()


async def test_a_fold_of_a_long_batch_ends_with_its_time(tmp_path: Path) -> None:
    record = CopiedRecord(topics.EVENTS.name, 0, 0, 0, b"ch-1", b"{}", ())
    records = [replace(record, offset=offset) for offset in range(1_000)]
    folded, ended = 0, Event()

    async def fold(log: Log) -> None:
        nonlocal folded
        try:
            (ranges,) = (await log.offset_ranges(topics.EVENTS.name)).items()
            async for batch in log.read(*ranges):
                for _ in batch:
                    folded += 1
                    time.sleep(0.002)  # noqa: ASYNC251 -- computes, and waits for nothing
        finally:
            ended.set()

    with pytest.raises(Problem) as refused:
        await reads_of(copy_of(tmp_path / "long.jsonl", records), max_read_s=0.2).run("acme", fold, stays)
    assert refused.value.name == "AuditTooLong"
    assert await asyncio.to_thread(ended.wait, 1), "the fold goes on"
    assert folded < 500


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ({"text": "x" * 2_100_000}, "4,20.,... bytes together, and at most 4,194,304"),
        ({str(number): number for number in range(10_000)}, "20,... values together, and at most 20,000"),
    ],
)
def test_a_diff_is_bounded_in_bytes_and_in_values(text: dict[str, Any], sentence: str) -> None:
    intent = IntentSettings.model_construct(code="A", name="A", default_data=text)
    system = BusinessSystemSettings(system="s", name="S", api_request_url="https://s.example", intents=(intent,))
    settings = ChannelSettings(
        channel="ch-1", account="acme", channel_type="whatsapp", name="Shop", version=1, business_systems=(system,)
    )
    at = SettingsAt("ch-1", LATEST, settings, ChannelState(), None, None, None, 0, LogPosition("t", 0, 0))

    with pytest.raises(AuditError, match=sentence):
        require_comparable(at, at)
    require_comparable(at)
