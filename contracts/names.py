"""Names that people give: one visible line, in one normal form, and compared as they look."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

NAME_LIMIT = 255
"""Characters."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_JOINERS = "\u200c\u200d"
"""They shape Persian and Indic words, and join emoji, but show nothing: taken, and not compared."""

_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Invisible, though not of category Cf: fillers, and the empty Braille pattern."""

_NOT_COMPARED = re.compile(f"[{_JOINERS}\ufe00-\ufe0f]")
_SPACES = re.compile(r"\s+")


def name_key(name: str) -> str:
    """What two names have in common that look the same: NFC, without joiners, with one kind of space."""
    if name.isascii():
        return _SPACES.sub(" ", name).strip()
    return _SPACES.sub(" ", _NOT_COMPARED.sub("", unicodedata.normalize("NFC", name))).strip()


def same_name(one: str, other: str) -> bool:
    """Whether both are kept as one name: the same in NFC, without spaces at the ends."""
    return one == other or _kept_form(one) == _kept_form(other)


def _kept_form(text: str) -> str:
    return text.strip() if text.isascii() else unicodedata.normalize("NFC", text.strip())


def _visible_line(text: str) -> str:
    """The name in NFC without spaces at its ends. Raises ValueError, which repeats no input."""
    if _CONTROL.search(text):
        raise ValueError("it must be one line without control characters")
    text = _kept_form(text)
    if not text.isascii():
        if any(_is_invisible(character) for character in text):
            raise ValueError("it must not hold invisible characters or marks that turn the direction of text")
        if len(text) > NAME_LIMIT:
            raise ValueError(f"it has {len(text)} characters in normal form C; at most {NAME_LIMIT} are allowed")
    if not name_key(text):
        raise ValueError("it must not be blank")
    return text


def _is_invisible(character: str) -> bool:
    return character in _BLANKS or (unicodedata.category(character) == "Cf" and character not in _JOINERS)


Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_LIMIT), AfterValidator(_visible_line)]
