"""A few random damages of a log and its state; `python -m tests.damages` makes as many as wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.audit.log import source
from services.audit.verification import state_records
from tests.damages.__main__ import damages_of_the_log
from tests.damages.log import KINDS


async def test_random_damages_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (source, state_records):
        monkeypatch.setattr(module, "WAITS_S", (0.0,))
    results = await damages_of_the_log(1, 60, tmp_path)
    assert [result for result in results if result[1] not in ("named", "not looked at", "no change")] == []
    assert {kind for kind, result in results if result == "named"} == {kind.__name__ for kind in KINDS}
