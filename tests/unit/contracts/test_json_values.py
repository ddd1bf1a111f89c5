"""Two JSON values are the same only if their types are too."""

from __future__ import annotations

import pytest

from contracts.json_values import same_json


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1, True),
        (1, 1.0, False),
        (1, True, False),
        (None, False, False),
        ("a", "a", True),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, True),
        ({"a": [1, {"b": True}]}, {"a": [1, {"b": 1}]}, False),
        ({"a": None}, {}, False),
        ([1, 2], [2, 1], False),
        ([], {}, False),
    ],
)
def test_same_json(left: object, right: object, same: bool) -> None:  # noqa: FBT001
    assert same_json(left, right) is same
    assert same_json(right, left) is same
