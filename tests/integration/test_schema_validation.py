"""Checks of schemas run in a process that a deadline ends, and delay no other account."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.intent import AddIntent
from contracts.outcome import CommandRejected
from contracts.partitioner import partition_of
from contracts.sms import ToggleSms
from services.domain.json_schema import TIMED_OUT, VALID
from services.schema_validation import validator
from services.schema_validation.validator import SchemaValidator
from services.schema_validation.worker import NICENESS, READY
from tests.commands import OPEN, REGISTER
from tests.hostile_schemas import references_to_enum
from tests.installation import Installation, fresh
from tests.patience import PATIENCE_S
from tests.servers import PARTITIONS

SIMPLE = {"allOf": [{"type": "object"}]}
ENDLESS, DATA = references_to_enum(80)
UNESTIMATED = "tests.unestimated_worker"


@pytest.fixture
async def unestimated() -> AsyncIterator[SchemaValidator]:
    made = SchemaValidator(UNESTIMATED)
    yield made
    await made.aclose()


async def test_a_check_over_its_deadline_is_ended_once_and_the_next_one_is_made(
    unestimated: SchemaValidator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validator, "WALL_LIMIT_S", PATIENCE_S)
    started: list[int] = []
    start_worker = unestimated._start_worker

    async def counted() -> Process:
        worker = await start_worker()
        started.append(worker.pid)
        return worker

    monkeypatch.setattr(unestimated, "_start_worker", counted)
    assert await unestimated.check(SIMPLE, {}) == VALID
    assert await unestimated.check(ENDLESS, DATA) == TIMED_OUT
    assert unestimated.verdict_now(ENDLESS, DATA) == TIMED_OUT
    assert await unestimated.check(SIMPLE, {"a": 1}) == VALID
    assert len(started) == 2, "the one that was ended, and its successor"


async def test_a_check_has_a_lower_priority_than_its_service(unestimated: SchemaValidator) -> None:
    await unestimated.check(SIMPLE, {})
    worker = unestimated._worker
    assert worker is not None
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) == min(own + NICENESS, 19)


async def test_others_go_on_during_a_check(unestimated: SchemaValidator) -> None:
    await unestimated.check(SIMPLE, {})
    check = asyncio.create_task(unestimated.check(ENDLESS, DATA))
    turns = 0
    while not check.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert check.result() == TIMED_OUT
    assert turns > 5, "a check in this process would leave them one"


async def test_a_cancelled_check_leaves_no_answer_for_the_next_one(unestimated: SchemaValidator) -> None:
    await unestimated.check(SIMPLE, {})
    check = asyncio.create_task(unestimated.check(ENDLESS, DATA))
    await asyncio.sleep(0.05)
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check
    assert await unestimated.check(SIMPLE, {"a": 1}) == VALID


def test_a_check_ends_although_its_service_was_killed() -> None:
    script = (
        "import asyncio\n"
        "from services.schema_validation.validator import SchemaValidator\n"
        "from tests.hostile_schemas import references_to_enum\n"
        "async def main():\n"
        f"    validator = SchemaValidator('{UNESTIMATED}')\n"
        "    await validator.check({'allOf': [{}]}, {})\n"
        "    print(validator._worker.pid, flush=True)\n"
        "    await validator.check(*references_to_enum(80))\n"
        "asyncio.run(main())\n"
    )
    service = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    worker = int(service.stdout.readline())
    time.sleep(0.05)
    service.kill()
    service.wait()
    service.stdout.close()
    end = time.monotonic() + 10
    while _is_running(worker):
        assert time.monotonic() < end, "the worker outlives its service"
        time.sleep(0.05)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_worker_ends_with_its_input_and_gets_no_secrets() -> None:
    worker = subprocess.run(
        [sys.executable, "-m", "services.schema_validation.worker"], input=b"", capture_output=True, check=True
    )
    assert worker.stdout == READY


@pytest.mark.parametrize("references", [10, 80])
async def test_a_hostile_schema_is_refused_and_others_are_answered(installation: Installation, references: int) -> None:
    hostile = fresh("hostile")
    quiet = fresh("quiet")
    while partition_of(quiet, PARTITIONS) == partition_of(hostile, PARTITIONS):
        quiet = fresh("quiet")
    schema, data = references_to_enum(references)
    wide = {"properties": {"rows": {"items": schema.pop("items")}}, **schema}
    async with installation.publisher("acme") as attacker, installation.publisher("other") as other:
        await attacker.send(REGISTER, channel=hostile)
        await attacker.send(OPEN, channel=hostile)
        await other.send(REGISTER, channel=quiet)
        attack = [
            asyncio.create_task(
                attacker.send(
                    AddIntent(system="crm", code=f"C{number}", name="C", default_data={"rows": data}, json_schema=wide),
                    channel=hostile,
                )
            )
            for number in range(20)
        ]
        for number in range(30):
            assert (await other.send(ToggleSms(enabled=number % 2 == 0), channel=quiet)).accepted
        outcomes = [await one for one in attack]
    for outcome in outcomes:
        assert isinstance(outcome.body, CommandRejected)
        assert outcome.body.rejection == "IntentSchemaInvalid"
        assert "at most 50 ms are allowed" in outcome.body.message
