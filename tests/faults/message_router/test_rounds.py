"""Two of the rounds that are played by the hundred, and a router without a safeguard, which must be noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.message_router.process import Sabotage, Step
from tests.faults.message_router.rounds import CONTROLS, Fault, Round, play
from tests.faults.message_router.settled import Violation
from tests.faults.message_router.testbed import Testbed, open_testbed

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def testbed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Testbed]:
    directory: Path = tmp_path_factory.mktemp("message-router")
    async with open_testbed(directory) as found:
        yield found


@pytest.mark.parametrize(("fault", "step"), [("kill", "published"), ("kafka-kill", "loaded")])
async def test_round(testbed: Testbed, fault: Fault, step: Step) -> None:
    await play(testbed, Round.generate(0, fault, fault, step), contentions=(0.5, 2.5))


@pytest.mark.parametrize("control", ["old-switch"])
async def test_a_missing_safeguard_is_noticed(testbed: Testbed, control: Sabotage) -> None:
    fault, step = CONTROLS[control]
    with pytest.raises(Violation):
        await play(testbed, Round.generate(0, control, fault, step)._replace(sabotage=control), contentions=())
