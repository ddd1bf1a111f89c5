"""Names: kept in NFC and trimmed, refused where something in them cannot be seen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contracts.names import Name, name_key

NAME: TypeAdapter[str] = TypeAdapter(Name)


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("  CRM \u3000", "CRM"),
        ("Bu\u0308ro", "B\u00fcro"),
        ("\u212b", "\u00c5"),
        ("two  spaces", "two  spaces"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        (
            "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
    ],
)
def test_it_is_kept_in_one_form(given_name: str, kept: str) -> None:
    assert NAME.validate_python(given_name) == kept


@pytest.mark.parametrize(
    "name",
    [
        *(
            "\u200b",
            "CR\u200bM",
            "\ufeffCRM",
            "CRM\u202e",
            "\u2066CRM\u2069",
            "\u00adCRM",
            "\u3164",
            "\u2800",
            "a\u115fb",
        ),
        *("CRM\U000e0041", "C\u061cRM", "\u200d", "\u200c \u200d", " \u00a0 ", "a\nb", "a\u2028b", "\u0958" * 255),
    ],
)
def test_what_cannot_be_seen_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        NAME.validate_python(name)


@given(st.text(min_size=1, max_size=30))
def test_a_name_that_is_taken_once_is_taken_as_it_was_kept(text: str) -> None:
    try:
        kept = NAME.validate_python(text)
    except ValidationError:
        return
    assert NAME.validate_python(kept) == kept == unicodedata.normalize("NFC", kept).strip()
    assert name_key(text) == name_key(kept) == name_key(f" {unicodedata.normalize('NFD', kept)}\u00a0")
