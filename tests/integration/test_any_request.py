"""Every route of the OpenAPI document, asked with odd values at every place: a clear answer, never a fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from yarl import URL

from tests.installation import Api, Installation, fresh

ODD_TEXTS = (
    *("", "%00", "%ED%A0%80", "%FF", "%0A", "%22", "%F0%9F%98%80", "x" * 3_000, "..%2F..", "-1", "9" * 25, "1e400"),
    *("NaN", "-Infinity", "true", "1.5.2", "a/b/c", "a.b.c.d", "9.events.0.9999999999999999999"),
    *(
        "0001-01-01T00:00:00%2B14:00",
        "9999-12-31T23:59:59.999999-14:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ),
)
"""As they stand in a path or a query."""

ODD_JSON = (
    *("1e400", "-1e400", "NaN", "-Infinity", "9" * 5_000, "-0.0", "null", "true", "[]", "{}", "[null]", '""', "9" * 25),
    *(
        r'"\u0000"',
        r'"\ud800"',
        r'"x\udc00y"',
        r'{"\ud800": 1}',
        r'{"\u0000": "\u0000"}',
        r'["\ud800"]',
        '{"a": 1e400}',
    ),
    *('"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59-14:00"', '"\u202e"', '{"a":' * 150 + "1" + "}" * 150),
)
"""As they stand in a body."""

SAMPLES: dict[str, Any] = {
    "name": "Shop",
    "api_request_url": "https://crm.example/hook",
    "channel_type": "whatsapp",
    "enabled": True,
    "enterprise_authenticated": True,
    "countries": ["ID"],
    "use_own_numbers": False,
    "default_data": {},
    "system": "crm",
    "code": "ORDER",
    "template": "t-1",
    "data": {},
    "recipient": "+6591234567",
    "category": "marketing",
    "status": "sent",
    "via": "chat",
    "at": "2026-11-26T08:00:00Z",
    "resource": "pool",
    "country": "SG",
    "sender": "+6580000000",
    "units": 0,
    "as_of": "2026-11-26T08:00:00Z",
    "valid_seconds": 60,
    "mode": "off",
    "rates": [],
    "label": "Odd",
    "roles": ["viewer"],
    "channels": ["odd"],
    "required_for": [],
    "change": "c1",
    "command": {"type": "SaveApprovals", "data": {"required_for": ["retire"]}},
}
NO_FAULT = {200, 201, 202, 400, 403, 404, 409, 422, 429, 503, 504}
BUSY = {429: "TooManyListeners", 503: "AuditsBusy", 504: "ReadModelBehind"}
"""Each odd id begins a listener; other audits are reading the log; a ``min_version`` that never comes."""

NAMES_A_FIELD = {"ParameterInvalid", "InvalidCommand", "ReplayInvalid", "ApiKeyInvalid", "SectionsInvalid"}
"""Problems that say of a part of the request what is wrong with it; others are of the settings."""

SLOW = {"wait", "min_version"}
"""Parameters that wait where their value is sound; odd values do not wait."""


def requests(document: dict[str, Any], sound: dict[str, str]) -> Iterator[tuple[str, str, str | None, str | None]]:
    """(method, path, body, the name of the value that is odd). ``sound`` has a path parameter's value where that is not
    the odd one."""
    for template, operations in document["paths"].items():
        for method, operation in operations.items():
            parameters = operation.get("parameters", [])
            in_path = [one["name"] for one in parameters if one["in"] == "path"]
            path = template.format(**{name: sound[name] for name in in_path})
            query = [
                f"{one['name']}={sound.get(one['name'], 'now')}"
                for one in parameters
                if one["in"] == "query" and one.get("required")
            ]
            for name in in_path:
                for odd in ODD_TEXTS[1:]:
                    yield method, template.format(**{**sound, name: odd}), None, name
            for name in (one["name"] for one in parameters if one["in"] == "query"):
                for odd in ODD_TEXTS:
                    if not (name in SLOW and odd == "9" * 25):
                        others = [one for one in query if not one.startswith(f"{name}=")]
                        yield method, f"{path}?{'&'.join([*others, f'{name}={odd}'])}", None, name
            if "requestBody" in operation:
                reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                for body, name in bodies(document["components"]["schemas"][reference.rpartition("/")[2]]):
                    yield method, path, body, name


def bodies(schema: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    yield from ((odd, None) for odd in ODD_JSON)
    rest = {name: SAMPLES[name] for name in schema.get("required", ())}
    for name in schema["properties"]:
        others = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in rest.items() if key != name]
        for odd in ODD_JSON:
            yield "{" + ", ".join([*others, f"{json.dumps(name)}: {odd}"]) + "}", name


def is_clear(problem: dict[str, Any], odd: str | None) -> bool:
    """Whether a problem says what is wrong, and where, with the part of the request that is ``odd``, or another one."""
    name, detail = problem["type"].rpartition(":")[2], problem["detail"]
    if problem["status"] in BUSY:
        return bool(name == BUSY[problem["status"]])
    if problem["status"] in (403, 409):
        return bool(detail)
    if problem["status"] == 404:
        return bool(name.endswith("Unknown") or name == "NotYetRegistered")
    named = odd is None or odd in detail or "' is missing" in detail or "part of a path" in detail
    return bool(detail) and (named or name not in NAMES_A_FIELD)


@pytest.mark.timeout(300)
async def test_no_value_anywhere_makes_a_fault(installation: Installation) -> None:
    account, channel = fresh("odd"), fresh("odd")
    sound = {"channel": channel, "system": "crm", "code": "ORDER", "key_id": "k1", "delivery": "d1", "section": "sms"}
    sound |= {"message": "m1", "resource": "pool", "key": "k1", "template": "t-1", "change": "c1", "listener": "l1"}
    faults: list[str] = []
    places = asyncio.Semaphore(8)

    async def ask(api: Api, method: str, path: str, body: str | None, odd: str | None) -> None:
        url, headers = URL(f"{installation.address}{path}", encoded=True), {"Content-Type": "application/json"}
        async with places, api.session.request(method, url, data=body, headers=headers) as answer:
            text = await answer.text()
            if answer.status not in NO_FAULT or not (answer.status < 400 or is_clear(json.loads(text), odd)):
                faults.append(f"{answer.status} {method} {path[:200]} {(body or '')[:200]}: {text[:200]}")

    async with installation.api(None, **{"Switchboard-Account": account, "Connection": "close"}) as api:
        whatsapp = {name: SAMPLES[name] for name in ("channel_type", "name", "enterprise_authenticated")}
        assert (await api("PUT", f"channels/{channel}", whatsapp)).status == 201
        crm = {name: SAMPLES[name] for name in ("name", "api_request_url")}
        assert (await api("PUT", f"channels/{channel}/business-systems/crm", crm)).status == 201
        document = (await api("GET", "../openapi.json")).body
        asked = list(requests(document, {name: quote(value) for name, value in sound.items()}))
        waiting = ("/test-calls", "/trigger")  # for a call of somebody
        asked = [one for one in asked if not any(end in one[1] for end in waiting)]
        await asyncio.gather(*(ask(api, method.upper(), path, body, odd) for method, path, body, odd in asked))

    assert len(asked) > 2_000
    assert faults == []
