"""A few random damages of read-model rows; `python -m tests.damages` makes as many as wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.audit.log import source
from services.audit.verification import state_records
from tests.damages.__main__ import damages_of_read_models
from tests.servers import Servers


@pytest.mark.timeout(240)
async def test_random_damages_are_found(
    monkeypatch: pytest.MonkeyPatch, shared_servers: Servers, tmp_path: Path
) -> None:
    for module in (source, state_records):
        monkeypatch.setattr(module, "WAITS_S", (0.0,))
    results = await damages_of_read_models(1, 60, shared_servers.dsn, tmp_path)
    assert [result for result in results if result[1] not in ("named", "not looked at")] == []
    assert sum(count for (_, result), count in results.items() if result == "named") > 20
