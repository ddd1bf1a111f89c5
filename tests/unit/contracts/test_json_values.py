"""Two JSON values are the same only if their types are too."""

from __future__ import annotations

import json

import pytest

from contracts.json_values import JsonUnreadable, parse_json, same_json


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


@pytest.mark.parametrize("text", ['{"a": "NaN"}', '{"Infinity": [1e308, -0.0]}', '["\\ud83d\\ude00"]'])
def test_what_looks_like_what_cannot_be_kept_is_read(text: str) -> None:
    assert parse_json(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ('{"a": {"b": [1e400]}}', "'a.b.0' is a number beyond"),
        ('{"a": "x\\ud800"}', "'a' has half of a surrogate pair"),
        ('{"a": {"\\ud800": 1}}', "a name in 'a' has half of a surrogate pair"),
    ],
)
def test_what_cannot_be_kept_is_named(text: str, clause: str) -> None:
    with pytest.raises(JsonUnreadable, match=clause):
        parse_json(text)
