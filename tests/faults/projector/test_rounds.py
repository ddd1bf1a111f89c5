"""Three short fault rounds for the read models; `make faults` plays them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.projector.rounds import play_rounds


@pytest.mark.timeout(240)
def test_three_rounds(tmp_path: Path) -> None:
    assert play_rounds(3, 1, ("postgres", "rebalance", "rebuild"), tmp_path) == 0
