"""When a read model is behind its log."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from services.projector.lag import is_behind


class Record(NamedTuple):
    offset: int


@pytest.mark.parametrize(
    ("next_offset", "last", "behind"),
    [
        (0, None, False),
        (0, Record(0), True),
        (6, Record(7), True),
        (7, Record(7), True),  # the last event of a transaction, of which all before it are applied
        (8, Record(7), False),
        (9, Record(7), False),  # past the transaction's marker
    ],
)
def test_an_event_at_the_next_offset_is_not_applied_yet(next_offset: int, last: Record | None, *, behind: bool) -> None:
    assert is_behind(next_offset, last) == behind
