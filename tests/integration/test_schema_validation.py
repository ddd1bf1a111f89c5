"""Checks of schemas run in a process that a deadline ends, and delay no other account."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.intent import AddIntent
from contracts.kafka.publisher import Publisher
from contracts.outcome import CommandRejected
from contracts.partitioner import partition_of
from contracts.sms import ToggleSms
from services.domain.json_schema import TIMED_OUT, VALID
from services.schema_validation.validator import SchemaValidator
from services.schema_validation.worker import NICENESS, READY
from tests.commands import OPEN, REGISTER
from tests.hostile_schemas import references_to_enum
from tests.installation import Installation, fresh
from tests.servers import PARTITIONS

SIMPLE = {"allOf": [{"type": "object"}]}
ENDLESS, DATA = references_to_enum(80)
UNESTIMATED = "tests.unestimated_worker"


@pytest.fixture
async def unestimated() -> AsyncIterator[SchemaValidator]:
    validator = SchemaValidator(UNESTIMATED)
    yield validator
    await validator.aclose()


async def test_a_check_over_its_deadline_is_ended_once_and_the_next_one_is_made(unestimated: SchemaValidator) -> None:
    assert await unestimated.check(SIMPLE, {}) == VALID
    began = time.monotonic()
    assert await unestimated.check(ENDLESS, DATA) == TIMED_OUT
    ended = time.monotonic() - began
    assert unestimated.verdict_now(ENDLESS, DATA) == TIMED_OUT
    assert await unestimated.check(SIMPLE, {"a": 1}) == VALID
    assert ended < 2.5


async def test_a_check_has_a_lower_priority_than_its_service(unestimated: SchemaValidator) -> None:
    await unestimated.check(SIMPLE, {})
    worker = unestimated._worker
    assert worker is not None
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) == min(own + NICENESS, 19)


async def test_others_go_on_during_a_check(unestimated: SchemaValidator) -> None:
    await unestimated.check(SIMPLE, {})
    check = asyncio.create_task(unestimated.check(ENDLESS, DATA))
    longest = 0.0
    while not check.done():
        began = time.monotonic()
        await asyncio.sleep(0.005)
        longest = max(longest, time.monotonic() - began)
    assert check.result() == TIMED_OUT
    assert longest < 0.2


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


async def _latencies(publisher: Publisher, channel: str, count: int) -> list[float]:
    found = []
    for number in range(count):
        began = time.monotonic()
        await publisher.send(ToggleSms(enabled=number % 2 == 0), channel=channel)
        found.append(time.monotonic() - began)
    return sorted(found)


@pytest.mark.parametrize("references", [10, 80])
async def test_a_hostile_schema_is_refused_and_no_other_account_waits(
    installation: Installation, references: int
) -> None:
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
        alone = await _latencies(other, quiet, 30)
        attack = [
            asyncio.create_task(
                attacker.send(
                    AddIntent(system="crm", code=f"C{number}", name="C", default_data={"rows": data}, json_schema=wide),
                    channel=hostile,
                )
            )
            for number in range(20)
        ]
        beside = await _latencies(other, quiet, 30)
        outcomes = [await one for one in attack]
    for outcome in outcomes:
        assert isinstance(outcome.body, CommandRejected)
        assert outcome.body.rejection == "IntentSchemaInvalid"
        assert "at most 50 ms are allowed" in outcome.body.message
    assert beside[-1] < max(1.0, 10 * alone[-1])
