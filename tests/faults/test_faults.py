"""Three rounds of the fault suite, and two of the sabotages that show that it would notice. `make faults` runs more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.arena import Arena
from tests.faults.nemesis import CONTROLS, FAULTS, Round
from tests.faults.victim import Sabotage

_COMMANDS_A_CHANNEL = 40


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with Arena(tmp_path_factory.mktemp("arena")) as arena:
        yield arena


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", ["stopped-and-woken", "commit-late", "broker-killed-in-a-transaction"])
def test_a_round(arena: Arena, fault: str) -> None:
    turn = Round(arena, list(FAULTS).index(fault), seed=1, size=_COMMANDS_A_CHANNEL)
    _, found = asyncio.run(turn.run(FAULTS[fault]))

    assert found == []


@pytest.mark.timeout(240)
@pytest.mark.parametrize("control", ["forgotten-ids", "unawaited-send"])
def test_a_sabotage_is_noticed(tmp_path: Path, control: Sabotage) -> None:
    with Arena(tmp_path) as arena:
        turn = Round(arena, 0, seed=3, sabotage=control, size=_COMMANDS_A_CHANNEL)
        _, found = asyncio.run(turn.run(FAULTS[CONTROLS[control]]))

    assert found != []
