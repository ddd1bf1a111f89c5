"""Two runs of ``audit verify --database`` under load; ``make faults KIND=verify`` plays as many as wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.verify.rounds import play_rounds


@pytest.mark.timeout(400)
def test_two_rounds(tmp_path: Path) -> None:
    assert play_rounds(2, 1, ("rebuild", "restart-decider"), tmp_path) == 0
