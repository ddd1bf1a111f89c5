"""A run of ``audit verify --database`` under load; ``make faults KIND=verify`` plays as many and all kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.verify.rounds import play_rounds


@pytest.mark.timeout(400)
def test_a_round(tmp_path: Path) -> None:
    assert play_rounds(1, 1, ("restart-decider",), tmp_path) == 0
