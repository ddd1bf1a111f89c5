"""Three rounds of the fault suite, and one of the sabotages that show that it would notice. `make faults` runs more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.decider.faults import CONTROLS, FAULTS
from tests.faults.decider.process import Sabotage
from tests.faults.decider.round import Round
from tests.faults.decider.testbed import Testbed

_COMMANDS_A_CHANNEL = 40


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with Testbed(tmp_path_factory.mktemp("testbed")) as testbed:
        yield testbed


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", ["stopped-and-woken", "commit-late", "broker-killed-in-a-transaction"])
def test_a_round(testbed: Testbed, fault: str) -> None:
    turn = Round(testbed, list(FAULTS).index(fault), seed=1, size=_COMMANDS_A_CHANNEL)
    _, found = asyncio.run(turn.run(FAULTS[fault]))

    assert found == []


@pytest.mark.timeout(240)
@pytest.mark.parametrize("control", ["unawaited-send"])
def test_a_sabotage_is_noticed(tmp_path: Path, control: Sabotage) -> None:
    with Testbed(tmp_path) as testbed:
        turn = Round(testbed, 0, seed=3, sabotage=control, size=_COMMANDS_A_CHANNEL)
        _, found = asyncio.run(turn.run(FAULTS[CONTROLS[control]]))

    assert found != []
