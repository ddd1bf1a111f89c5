"""Three quick rounds of faults for the read models; ``python -m tests.faults.projector_rounds`` plays them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.projector_rounds import rounds


@pytest.mark.timeout(240)
def test_three_rounds(tmp_path: Path) -> None:
    assert rounds(("postgres", "rebalance", "rebuild"), 3, 1, tmp_path) == 0
