"""Four runs of ``audit verify --database`` under load; ``make faults KIND=verify`` plays as many as wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.verify.rounds import FAULTS, play_rounds


@pytest.mark.timeout(400)
def test_four_rounds(tmp_path: Path) -> None:
    assert play_rounds(len(FAULTS), 1, tuple(FAULTS), tmp_path) == 0
