"""Settings files as YAML: what JSON can hold comes back as it was, and nothing is guessed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.settings_files.strict_yaml import YamlError, dump, load

ODD = ["NO", "yes", "1e5", "0x1F", "010", "1_000", "=", "<<", "~", "null", ".nan", "- a", "a: b", " x", "a\nb", "", "'",
       "\u2028", "\x85", "\ufeff", "12:30", "2020-01-01", "1.", "+5", ".5", "!x", "&a", "*a", "---",
       "\t", "\x9b0m"]  # fmt: skip
texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(ODD)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(document=st.dictionaries(texts, values, max_size=4))
def test_what_json_can_hold_comes_back(document: dict[str, Any]) -> None:
    assert json.dumps(load(dump(document))) == json.dumps(document)


@given(text=st.text(st.sampled_from("[]{}:,-?&*!|>'\"%@#\n\t ab01.e+~<="), max_size=30))
def test_whatever_is_no_yaml_is_said_in_one_line(text: str) -> None:
    said = ""
    try:
        load(text)
    except YamlError as error:
        said = str(error)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("NO", "NO"),
        ("on", "on"),
        ("2026-11-22", "2026-11-22"),
        ("12:30", "12:30"),
        ("true", True),
        ("~", None),
        ("", None),
        ("-1", -1),
        ("1e5", 1e5),
        ("!!str 7", "7"),
        ("{NO: 1, 404: 2, 1E5: 3, true: 4}", {"NO": 1, "404": 2, "1E5": 3, "true": 4}),
        ("[" * 200 + "]" * 200, json.loads("[" * 200 + "]" * 200)),
    ],
)
def test_what_is_meant(text: str, meant: object) -> None:
    found = load(text)
    assert (found, type(found)) == (meant, type(meant))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: &x {b: 1}\nc: *x", "line 2, column 4: write out what the alias stands for"),
        ("a: &x [*x]", "write out what the alias stands for"),
        ("!!python/object/apply:os.system [true]", "the type 'python/object/apply:os.system' is none"),
        ("!!binary aGVsbG8=", "the type 'binary' is none"),
        ("!!set {a}", "the type 'set' is none"),
        ("!!timestamp 2026-11-22", "the type 'timestamp' is none"),
        ("!!bool maybe", "'maybe' is no bool"),
        ("!!int x", "'x' is no number"),
        ("!!map x", "it must be a mapping"),
        ("!!seq {a: 1}", "it must be a list"),
        ("!!str [a]", "it must be a single value"),
        ("010", "'010' is no number as JSON has it"),
        ("1_000", "'1_000' is no number as JSON has it"),
        ("0x1F", "'0x1F' is no number as JSON has it"),
        (".5", "'.5' is no number as JSON has it"),
        (".nan", "'.nan' is no number as JSON has it"),
        ("1" * 5_000, "is no number as JSON has it"),
        ("? [a]\n: b", "a key must be a text"),
        ("a: 1\n'a': 2", "line 2, column 1: 'a' is given twice"),
        ("a: 1\n---\nb: 2", "line 2, column 1"),
        ("[" * 300, "it is nested deeper than 256 levels"),
        ("a\0", "special characters are not allowed"),
    ],
)
def test_what_cannot_be_meant(text: str, sentence: str) -> None:
    with pytest.raises(YamlError) as refused:
        load(text)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
