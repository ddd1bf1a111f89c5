"""Waits between tries: longer with each failure, up to a limit, and never all at the same moment."""

from __future__ import annotations

import pytest

from services.cli.backoff import backoff_s


@pytest.mark.parametrize(("failures", "longest"), [(1, 0.25), (2, 0.5), (5, 4.0), (6, 5.0), (5000, 5.0)])
def test_a_wait_doubles_up_to_a_limit(failures: int, longest: float) -> None:
    waits = {backoff_s(failures, 0.25, 5.0) for _ in range(50)}

    assert longest / 2 <= min(waits) <= max(waits) <= longest
    assert len(waits) > 1
