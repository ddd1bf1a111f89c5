"""The invoker survives a SIGKILL at each of its steps, and three of the rounds that are played by the hundred."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.invoker_process import STEPS, Step
from tests.faults.invoker_rounds import Fault, Round, judge_reading_again, outcomes, play
from tests.faults.invoker_world import World, world

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("invoker")) as found:
        yield found


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at(made: World, step: Step) -> None:
    plan = Round.drawn(random.Random(step), "kill", step)
    await play(made, plan)
    if step != "called":
        return
    told = await outcomes(made)
    assert all(len({note["id"] for note in told.get(request_id, [])}) <= 1 for request_id, _ in plan.requests)
    [[unknown]] = await made.rows("SELECT count(*) FROM invoker.attempts WHERE stage = 'unknown'")
    assert unknown > 0


@pytest.mark.parametrize("fault", ["zombie", "postgres-kill", "kafka-restart"])
async def test_round(made: World, fault: Fault) -> None:
    await play(made, Round.drawn(random.Random(fault), fault))


async def test_reading_all_requests_again_calls_nobody(made: World) -> None:
    await judge_reading_again(made)
