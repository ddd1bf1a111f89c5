"""A decider is killed while it checks a schema: the check times out once, and no owner after it tries again."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from contracts import topics
from contracts.intent import AddIntent
from contracts.kafka.publisher import Outcome, Publisher
from contracts.outcome import CommandRejected
from contracts.sms import ToggleSms
from tests.commands import OPEN, REGISTER
from tests.faults.decider.log_reader import read_log
from tests.faults.decider.process import ProcessOptions, SelfSignal
from tests.faults.decider.testbed import DeciderProcess, Testbed
from tests.hostile_schemas import references_to_enum

_WORKER = "tests.slow_deadline_worker"
_SCHEMA, _ROWS = references_to_enum(80)
LABORIOUS = AddIntent(
    system="crm",
    code="SLOW",
    name="Slow",
    default_data={"rows": _ROWS},
    json_schema={"properties": {"rows": {"items": _SCHEMA.pop("items")}}, **_SCHEMA},
)
WARM_UP = AddIntent(
    system="crm", code="QUICK", name="Quick", default_data={}, json_schema={"allOf": [{"type": "object"}]}
)
DIES_IF_IT_CHECKS = SelfSignal(step="checking")


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with Testbed(tmp_path_factory.mktemp("testbed"), partitions=1) as testbed:
        yield testbed


def _publisher(testbed: Testbed) -> Publisher:
    return Publisher(testbed.kafka.bootstrap_servers, source="tests", account="acme")


def _options(**more: Any) -> ProcessOptions:
    return ProcessOptions(partitions=1, check_worker=_WORKER, **more)


async def _prepare(publisher: Publisher, channel: str) -> None:
    for command in (REGISTER, OPEN, WARM_UP):
        await publisher.send(command, channel=channel, timeout=60)


def _is_timed_out(outcome: Outcome) -> bool:
    return isinstance(outcome.body, CommandRejected) and outcome.body.rejection == "DecisionTimedOut"


async def _outcomes_on_the_log(testbed: Testbed, command_id: str) -> list[dict[str, Any]]:
    log = await read_log(testbed.kafka.bootstrap_servers, 1)
    outcomes = [json.loads(record.value or b"{}") for record in log.of(topics.OUTCOMES, 0)]
    return [outcome for outcome in outcomes if outcome["causationid"] == command_id]


async def _never_checked_again(testbed: Testbed, publisher: Publisher, channel: str, command_id: str) -> None:
    """The next owner, which would die of a check, answers the command sent again and decides the ones after it."""
    decider = testbed.start(_options(own=(0,), self_signal=DIES_IF_IT_CHECKS))
    await decider.ready()
    again = await publisher.send(LABORIOUS, channel=channel, command_id=command_id, timeout=60)
    after = await publisher.send(ToggleSms(enabled=False), channel=channel, timeout=60)
    assert _is_timed_out(again)
    assert again.repeated
    assert not isinstance(after.body, CommandRejected)
    assert not decider.is_down()
    first, *repeats = await _outcomes_on_the_log(testbed, command_id)
    assert not first.get("repeated")
    assert all(one["repeated"] for one in repeats)


@pytest.mark.timeout(400)
async def test_the_next_owner_checks_once_rejects_and_nobody_tries_again(testbed: Testbed) -> None:
    killed_during_check = SelfSignal(step="checking", count=2, after_s=0.4)
    decider = testbed.start(_options(own=(0,), self_signal=killed_during_check))
    async with _publisher(testbed) as publisher:
        await _prepare(publisher, "ch-1")
        sent = asyncio.create_task(publisher.send(LABORIOUS, channel="ch-1", command_id="slow-1", timeout=90))
        assert await decider.down_within(60)
        assert decider.process.poll() == -signal.SIGKILL
        assert await _outcomes_on_the_log(testbed, "slow-1") == []

        next_owner = testbed.start(_options(own=(0,)))
        assert _is_timed_out(await sent)
        next_owner.kill()
        await _never_checked_again(testbed, publisher, "ch-1", "slow-1")
    testbed.end_deciders()


def _workers_cpu_s(decider: DeciderProcess) -> float:
    """The processor time of the processes that check schemas for it."""
    return sum(worker.cpu_times().user for worker in psutil.Process(decider.process.pid).children())


async def _checking(deciders: list[DeciderProcess], idle: list[float]) -> DeciderProcess:
    """The decider whose worker takes processor time beyond that of ``idle``."""
    while True:
        for decider, idle_s in zip(deciders, idle, strict=True):
            if _workers_cpu_s(decider) > idle_s + 0.02:
                return decider
        await asyncio.sleep(0.01)


@pytest.mark.timeout(400)
async def test_of_two_deciders_one_is_killed_during_the_check_and_the_other_rejects(testbed: Testbed) -> None:
    deciders = [testbed.start(_options(own=None)) for _ in range(2)]
    for decider in deciders:
        await decider.ready()
    async with _publisher(testbed) as publisher:
        await _prepare(publisher, "ch-2")
        idle = [_workers_cpu_s(decider) for decider in deciders]
        sent = asyncio.create_task(publisher.send(LABORIOUS, channel="ch-2", command_id="slow-2", timeout=120))
        async with asyncio.timeout(60):
            checking = await _checking(deciders, idle)
        assert await _outcomes_on_the_log(testbed, "slow-2") == []
        checking.send(signal.SIGKILL)

        assert _is_timed_out(await sent)
        [survivor] = [decider for decider in deciders if decider is not checking]
        assert not survivor.is_down()
        survivor.kill()
        await _never_checked_again(testbed, publisher, "ch-2", "slow-2")
    testbed.end_deciders()
