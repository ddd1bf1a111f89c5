"""The invoker survives a SIGKILL around a call, and two of the rounds that are played by the hundred."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.invoker.invariants import published_results
from tests.faults.invoker.process import Step
from tests.faults.invoker.rounds import Fault, Round, check_rereading, play
from tests.faults.invoker.testbed import Testbed, open_testbed

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def testbed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Testbed]:
    async with open_testbed(tmp_path_factory.mktemp("invoker")) as found:
        yield found


@pytest.mark.parametrize("step", ["called", "leased"])  # only verified systems are leased at once
async def test_killed_at(testbed: Testbed, step: Step) -> None:
    plan = Round.generate(random.Random(step), "kill", step)
    await play(testbed, plan)
    if step != "called":
        return
    published = await published_results(testbed)
    assert all(len({result["id"] for result in published.get(request_id, [])}) <= 1 for request_id, _ in plan.requests)
    [[unknown]] = await testbed.rows("SELECT count(*) FROM invoker.attempts WHERE stage = 'unknown'")
    assert unknown > 0


@pytest.mark.parametrize("fault", ["zombie", "postgres-kill"])
async def test_round(testbed: Testbed, fault: Fault) -> None:
    await play(testbed, Round.generate(random.Random(fault), fault))


async def test_reading_all_requests_again_calls_nobody(testbed: Testbed) -> None:
    await check_rereading(testbed)
