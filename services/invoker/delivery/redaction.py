"""Redacts secrets that a receiver echoes: no live token or signature is stored or published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from pydantic_core import from_json, to_json

from contracts.bounded_json import MAX_JSON_DEPTH
from services.invoker.delivery.secret_search import (
    SHORTEST_FORM,
    Forms,
    contains_secret,
    forms_of_secret,
    forms_of_signature,
    redact_secrets,
)
from services.invoker.settings_replica.endpoint import Endpoint

REDACTED = "[blacked out]"


def redact_answer(answer: bytes, endpoint: Endpoint, headers: Mapping[str, str]) -> tuple[bytes, Any]:
    """The answer to store, and its JSON value to publish, None where it is no JSON.

    JSON is serialised anew, so that no escape of the receiver's hides a secret. Where a secret is spread over several
    of its strings, the text is redacted instead, and there is no value.
    """
    text = answer.decode("utf-8", errors="replace")
    forms = _forms_to_redact(text, endpoint, headers)
    try:
        redacted = _redact(from_json(answer, allow_inf_nan=False), forms)
        kept = to_json(redacted)
        if not forms or not contains_secret(kept.decode(), forms):
            return kept, redacted
    except ValueError:
        pass
    return redact_secrets(text, forms, REDACTED).encode(errors="replace"), None


def _forms_to_redact(text: str, endpoint: Endpoint, headers: Mapping[str, str]) -> Sequence[Forms]:
    """Every form of each secret and of the signatures that were sent; none where the text has none of them."""
    if len(text) < SHORTEST_FORM:
        return ()
    forms = [forms_of_secret(signature.secret) for signature in endpoint.signatures]
    forms += [forms_of_signature(value) for value in headers.get("webhook-signature", "").split()]
    return forms if contains_secret(text, forms) else ()


def _redact(value: Any, forms: Sequence[Forms], depth: int = 0) -> Any:
    """The value without secrets. Raises ValueError where it nests too deep, or has a number that JSON has not."""
    if depth > MAX_JSON_DEPTH:
        raise ValueError
    match value:
        case str():
            return (redact_secrets(value, forms, REDACTED) if forms else value).replace("\x00", "\ufffd")
        case list():
            return [_redact(item, forms, depth + 1) for item in value]
        case dict():
            return {_redact(name, forms): _redact(item, forms, depth + 1) for name, item in value.items()}
        case float() if not isfinite(value):  # written as 1e999
            raise ValueError
        case _:
            return value
