"""Finds secrets in a text, however a receiver spells them, in time linear in the text.

Escapes are decoded layer by layer, all that is not a letter, a digit, ``+`` or ``/`` is left out (base64url is read as
base64), and each form of each secret is then a plain substring search. `docs/signed-calls.md` says what is not found.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from services.domain.webhook_signature import plain_token

SHORTEST_FORM = 40
"""Characters: no form is shorter."""
_LAYERS = 3
"""Escapes within escapes, such as ``%252B``."""
_CACHED_SECRETS = 10_000
_ESCAPE = re.compile(
    # A run of backslashes is one match, whatever follows: a search from each of them would be quadratic.
    r"\\+(?:u([0-9A-Fa-f]{4})|[bfnrt])?|%([0-9A-Fa-f]{2})|&#[xX]0{0,8}([0-9A-Fa-f]{1,6});|&#0{0,8}([0-9]{1,7});"
    r"|&(amp|plus|sol|equals|lowbar|hyphen|dash);"
)
_BASES = (16, 16, 16, 10)
_NAMED = {"amp": "&", "plus": "+", "sol": "/", "equals": "=", "lowbar": "_", "hyphen": "-", "dash": "-"}
_TO_BASE64 = str.maketrans("-_", "+/")
_SKIPPED = re.compile(r"[^A-Za-z0-9+/]+")
_KEPT = re.compile(r"[A-Za-z0-9+/]+")
_PREFIXES = ("whsec_", "whtok_", "v1,")

Span = tuple[int, int]


class Forms(NamedTuple):
    """What to search for: ``exact`` as it is, ``hexadecimal`` in either case."""

    exact: tuple[str, ...]
    hexadecimal: tuple[str, ...]


class _Layer(NamedTuple):
    """A text after some decoding; character ``i`` comes from ``starts[i]`` to ``ends[i]`` of the original."""

    text: str
    starts: list[int]
    ends: list[int]


@lru_cache(_CACHED_SECRETS)
def forms_of_secret(secret: bytes) -> Forms:
    """The secret and its token: as text, and each text and the bytes again in base64 and in hex."""
    texts = {
        base64.b64encode(secret).decode().rstrip("="),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
        plain_token(secret).removeprefix("whtok_"),
    }
    return _forms(texts, (secret, *(text.encode() for text in texts), secret.hex().encode()))


@lru_cache(256)
def forms_of_signature(signature: str) -> Forms:
    """The signature of one call, as text, and again in base64 and in hex."""
    text = signature.removeprefix("v1,").rstrip("=")
    return _forms({text}, (text.encode(), base64.b64decode(signature.removeprefix("v1,"))))


def _forms(texts: Iterable[str], contents: Iterable[bytes]) -> Forms:
    contents = tuple(contents)
    exact = {text.translate(_TO_BASE64) for text in texts}
    exact |= {_base64_within(content, offset) for content in contents for offset in range(3)}
    return Forms(tuple(exact), tuple({content.hex() for content in contents}))


def _base64_within(content: bytes, offset: int) -> str:
    """The base64 characters that the content alone decides, where ``offset`` bytes modulo 3 come before it."""
    encoded = base64.b64encode(bytes(offset) + content).decode()
    return encoded[-(-8 * offset // 6) : 8 * (offset + len(content)) // 6]


def contains_secret(text: str, forms: Iterable[Forms]) -> bool:
    forms = tuple(forms)
    for _ in range(_LAYERS):
        if _has_form(text, forms):
            return True
        decoded = _ESCAPE.sub(_decoded, text) if any(map(text.__contains__, "\\%&")) else text
        if decoded == text:
            return False
        text = decoded
    return _has_form(text, forms)


def _has_form(text: str, forms: Iterable[Forms]) -> bool:
    searched = _SKIPPED.sub("", text.translate(_TO_BASE64))
    if len(searched) < SHORTEST_FORM:
        return False
    lower = searched.lower()
    for some in forms:  # without a generator, whose steps would cost more than the searches of a short answer
        if any(map(searched.__contains__, some.exact)) or any(map(lower.__contains__, some.hexadecimal)):
            return True
    return False


def redact_secrets(text: str, forms: Iterable[Forms], mark: str) -> str:
    """The text with the mark in place of each secret that it spells."""
    forms = tuple(forms)
    if not forms or not contains_secret(text, forms):
        return text
    layer = _Layer(text, list(range(len(text))), list(range(1, len(text) + 1)))
    spans = _spans(layer, forms)
    for _ in range(_LAYERS):
        decoded = _next_layer(layer)
        if decoded.text == layer.text:  # without escapes: it would be searched again for what was found
            break
        layer = decoded
        spans += _spans(layer, forms)
    pieces: list[str] = []
    end = 0
    for start, stop in sorted(spans):
        if start >= end:
            pieces += [text[end:start], mark]
        end = max(end, stop)
    return "".join([*pieces, text[end:]])


def _decoded(match: re.Match[str]) -> str:
    for digits, base in zip(match.groups(), _BASES, strict=False):
        if digits is not None:
            code = int(digits, base)
            return chr(code) if code <= 0x10FFFF else ""
    return _NAMED.get(match[5] or "", "")


def _next_layer(layer: _Layer) -> _Layer:
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for match in _ESCAPE.finditer(layer.text):
        begin, end = match.span()
        decoded = _decoded(match)
        pieces += [layer.text[at:begin], decoded]
        starts += layer.starts[at:begin]
        ends += layer.ends[at:begin]
        if decoded:
            starts.append(layer.starts[begin])
            ends.append(layer.ends[end - 1])
        at = end
    return _Layer("".join([*pieces, layer.text[at:]]), starts + layer.starts[at:], ends + layer.ends[at:])


def _spans(layer: _Layer, forms: Iterable[Forms]) -> list[Span]:
    """Where the layer spells a form, as spans of the original text."""
    text = layer.text.translate(_TO_BASE64)
    kept = [i for match in _KEPT.finditer(text) for i in range(*match.span())]
    searched = _SKIPPED.sub("", text)
    lower = searched.lower()
    spans: list[Span] = []
    for some in forms:
        for where, names in ((searched, some.exact), (lower, some.hexadecimal)):
            for form in names:
                at = where.find(form)
                while at >= 0:
                    spans.append(_original(layer, kept[at], kept[at + len(form) - 1] + 1))
                    at = where.find(form, at + len(form))
    return spans


def _original(layer: _Layer, start: int, end: int) -> Span:
    """The original span of a form, its prefix and its padding included."""
    prefix = next((prefix for prefix in _PREFIXES if layer.text.startswith(prefix, max(0, start - len(prefix)))), "")
    if start >= len(prefix):
        start -= len(prefix)
    for _ in range(2):
        end += layer.text.startswith("=", end)
    return layer.starts[start], layer.ends[end - 1]
