"""Two short fault rounds for the read models; `make faults` plays them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.projector.rounds import play_rounds


@pytest.mark.timeout(240)
def test_two_rounds(tmp_path: Path) -> None:
    assert play_rounds(2, 1, ("postgres", "rebalance"), tmp_path) == 0
