"""Blacking out what a receiver echoes: no live token or signature is stored or published."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from services.domain.signing import plain_token
from services.invoker.knowledge import Endpoint

MARK = "[blacked out]"
_SHORTEST = 43
"""No form of 32 bytes is shorter: what is, needs no search."""
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_NOTHING = re.compile(r"(?!)")


def _secrets_of(endpoint: Endpoint, headers: Mapping[str, str]) -> re.Pattern[str]:
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
    return re.compile("|".join(f"(?:whsec_|whtok_|v1,)?{form}(?:=|%3D){{0,2}}" for form in _spellings(forms)))


def _spellings(forms: Iterable[str]) -> list[str]:
    """Each form as patterns, also as JSON, a URL and HTML may spell it."""
    spelled: set[str] = set()
    for form in forms:
        spelled.add(re.escape(form))
        spelled.add(re.escape(form.replace("/", "\\/")))
        spelled.add(re.escape(quote(form, safe="")))
        spelled.add(re.escape(form.replace("/", "&#x2F;").replace("+", "&#x2B;")))
    return sorted(spelled, key=len, reverse=True)


def blacked_out(answer: bytes, endpoint: Endpoint, headers: Mapping[str, str]) -> tuple[bytes, Any]:
    """The answer as it may be kept, and its JSON as it may be told, None where it is none.

    An answer that is JSON is kept as we write it, so that no escape of the receiver's hides a secret.
    """
    secrets = _secrets_of(endpoint, headers) if len(answer) >= _SHORTEST else _NOTHING
    try:
        parsed = json.loads(answer.decode(), parse_constant=_refuse)
        clean = _clean(parsed, secrets)
        return json.dumps(clean, ensure_ascii=False).encode(), clean
    except (ValueError, RecursionError):
        text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), answer.decode("utf-8", errors="replace"))
        return secrets.sub(MARK, text).encode(errors="replace"), None


def _clean(value: Any, secrets: re.Pattern[str]) -> Any:
    match value:
        case str():
            return secrets.sub(MARK, value).replace("\x00", "\ufffd").encode(errors="replace").decode()
        case list():
            return [_clean(one, secrets) for one in value]
        case dict():
            return {_clean(name, secrets): _clean(one, secrets) for name, one in value.items()}
        case _:
            return value


def _refuse(constant: str) -> None:
    raise ValueError(constant)
