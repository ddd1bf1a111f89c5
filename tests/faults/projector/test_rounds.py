"""A short fault round for the read models; `make faults` plays them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.projector.rounds import play_rounds


@pytest.mark.timeout(240)
def test_a_round(tmp_path: Path) -> None:
    assert play_rounds(1, 1, ("rebalance",), tmp_path) == 0
