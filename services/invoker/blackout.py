"""Blacking out what a receiver echoes: no live token or signature is stored or published."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

from pydantic_core import from_json, to_json

from contracts.message import DEEPEST_JSON
from services.domain.signing import plain_token
from services.invoker.endpoints import Endpoint

MARK = "[blacked out]"
_SHORTEST = 43
"""No form of 32 bytes is shorter: what is, needs no search."""
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_RUN = re.compile("[A-Za-z0-9]+")
_NOTHING = re.compile(r"(?!)")


def _forms(endpoint: Endpoint, headers: Mapping[str, str]) -> set[str]:
    """What must not come back: every form of each secret, and the signatures that were sent with a call."""
    forms: set[str] = set()
    for signature in endpoint.signatures:
        secret = signature.secret
        forms |= {
            base64.b64encode(secret).decode().rstrip("="),
            base64.urlsafe_b64encode(secret).decode().rstrip("="),
            secret.hex(),
            secret.hex().upper(),
            plain_token(secret).removeprefix("whtok_"),
        }
    for value in headers.get("webhook-signature", "").split():
        forms.add(value.removeprefix("v1,").rstrip("="))
    return forms


def _pattern(text: str, forms: set[str]) -> re.Pattern[str]:
    """Finds the forms. Letters and digits are always spelled as they are: for most answers a look for those does."""
    if not any(max(_RUN.findall(form), key=len) in text for form in forms):
        return _NOTHING
    spelled = sorted(("".join(map(_spelled, form)) for form in forms), key=len, reverse=True)
    return re.compile("|".join(f"(?:whsec_|whtok_|v1,)?{form}(?:{_spelled('=')}){{0,2}}" for form in spelled))


def _spelled(letter: str) -> str:
    """A letter as a pattern: as it is, or as URLs, HTML, and JSON within a text may spell it."""
    if letter.isalnum():
        return letter
    code = f"{ord(letter):02x}"
    escaped = rf"%{code}|\\+u00{code}|&#x{code};|&#{ord(letter)};|\\*{re.escape(letter)}"
    return f"(?:{re.escape(letter)}|(?i:{escaped}))"


def blacked_out(answer: bytes, endpoint: Endpoint, headers: Mapping[str, str]) -> tuple[bytes, Any]:
    """The answer as it may be kept, and its JSON as it may be told, None where it is none.

    An answer that is JSON is kept as we write it, so that no escape of the receiver's hides a secret.
    """
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), answer.decode("utf-8", errors="replace"))
    secrets = _NOTHING if len(answer) < _SHORTEST else _pattern(text, _forms(endpoint, headers))
    try:
        clean = _clean(from_json(answer, allow_inf_nan=False), secrets)
        return to_json(clean), clean
    except ValueError:
        return secrets.sub(MARK, text).encode(errors="replace"), None


def _clean(value: Any, secrets: re.Pattern[str], depth: int = 0) -> Any:
    """The value without secrets. Raises ValueError where it nests too deep, or holds what JSON does not have."""
    if depth > DEEPEST_JSON:
        raise ValueError
    match value:
        case str():
            return secrets.sub(MARK, value).replace("\x00", "\ufffd")
        case list():
            return [_clean(one, secrets, depth + 1) for one in value]
        case dict():
            return {_clean(name, secrets): _clean(one, secrets, depth + 1) for name, one in value.items()}
        case float() if not isfinite(value):  # written as 1e999
            raise ValueError
        case _:
            return value
