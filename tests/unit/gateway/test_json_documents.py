"""Customers' documents are sent as they are stored, in the same shape as if they were parsed."""

from __future__ import annotations

import json
from typing import Any

from contracts.settings import BusinessSystemSettings, IntentSettings
from services.gateway.json_documents import document, json_response, shown

DATA = '{"text": "Gr\u00fc\u00dfe \\ud83d\\ude00", "price": 1e2, "many": [1, {"a": null}]}'


def system(raw: bool) -> BusinessSystemSettings:  # noqa: FBT001 -- a case
    parse: Any = document if raw else json.loads
    intents = tuple(
        IntentSettings.model_construct(code=code, name="Order", default_data=parse(DATA), json_schema=schema)
        for code, schema in (("A", None), ("B", parse('{"type": "object"}')))
    )
    return BusinessSystemSettings(system="crm", name="CRM", api_request_url="https://crm.example", intents=intents)


def test_a_response_with_documents_says_the_same_as_one_without() -> None:
    raw, parsed = (json_response({"systems": [shown(system(raw))]}) for raw in (True, False))

    assert json.loads(bytes(raw.body)) == json.loads(bytes(parsed.body))
    assert DATA.encode() in bytes(raw.body)
