"""The rules of requests: bodies, parameters, keys, reveals and retirements, each with its refusal."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
from multidict import CIMultiDict

from tests.installation import Api, Installation, fresh

ON = b'{"enabled": true}'
JSON = {"Content-Type": "application/json"}
CRM = {"name": "CRM", "api_request_url": "https://crm.example/hook"}


@pytest.fixture
async def api(installation: Installation) -> AsyncIterator[Api]:
    async with installation.api("acme") as api:
        yield api


@pytest.fixture
async def channel(installation: Installation) -> str:
    name, whatsapp = fresh("rules"), {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
    async with installation.api(None, **{"Switchboard-Account": "acme"}) as platform:
        assert (await platform("PUT", f"channels/{name}", whatsapp)).status == 201
    return name


@pytest.mark.parametrize(
    ("body", "headers", "status", "name"),
    [
        (b"\xef\xbb\xbf" + ON, JSON, 400, "BodyUnreadable"),
        (b'{"enabled": true, "a": "\\ud800"}', JSON, 400, "BodyUnreadable"),
        (b'{"enabled": 1e400}', JSON, 400, "BodyUnreadable"),
        (ON, {"Content-Type": "application/merge-patch+json"}, 415, "MediaTypeUnsupported"),
        (ON, {"Content-Type": "application/json; charset=latin-1"}, 415, "MediaTypeUnsupported"),
        (gzip.compress(ON, mtime=0), JSON | {"Content-Encoding": "gzip"}, 415, "MediaTypeUnsupported"),
        (ON, {"Content-Type": "application/json; charset=utf-8"}, 200, None),
    ],
)
async def test_a_body_is_plain_json(
    api: Api, channel: str, body: bytes, headers: dict[str, str], status: int, name: str | None
) -> None:
    answer = await api("PUT", f"channels/{channel}/sms", data=body, headers=headers)
    assert answer.status == status, answer.body
    assert name is None or answer.body["type"] == f"urn:switchboard:problem:{name}"


async def test_an_idempotency_key_is_one_in_quotes_or_not_and_sent_once(api: Api, channel: str) -> None:
    path, key = f"channels/{channel}/sms", fresh("key")
    quoted = await api("PUT", path, {"enabled": True}, headers={"Idempotency-Key": f'"{key}"'})
    plain = await api("PUT", path, {"enabled": True}, headers={"Idempotency-Key": key})
    twice = CIMultiDict([("Idempotency-Key", key), ("Idempotency-Key", fresh("key"))])

    assert (quoted.status, quoted.body["command_id"]) == (200, key)
    assert plain.body == quoted.body
    assert (await api("PUT", path, {"enabled": False}, headers=twice)).status == 400


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("changes?resource=bla", "business-systems/crm/intents/ORDER"),
        ("changes?resources=sms", "resource"),
        ("channels/{c}/settings?min_verison=3", "min_version"),
        ("channels/{c}/sms?min_version=1&min_version=2", "sent twice"),
        ("channels?x=1", "after, limit"),
    ],
)
async def test_a_parameter_that_says_nothing_is_refused(api: Api, channel: str, path: str, says: str) -> None:
    answer = await api("GET", path.format(c=channel))
    assert answer.status == 400, answer.body
    assert says in answer.body["detail"]


async def test_each_showing_of_a_signature_is_an_event_or_refused(api: Api, channel: str) -> None:
    system, key = f"channels/{channel}/business-systems/crm", {"Idempotency-Key": fresh("reveal")}
    await api("PUT", system, CRM)
    answers: list[Any] = [await api("GET", f"{system}/signature", headers=key) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 409, 409]
    assert answers[0].body["signature"].startswith("whsec_")
    assert "whsec_" not in str(answers[1].body) + str(answers[2].body)


async def test_a_channel_is_retired_only_where_its_id_confirms_it(api: Api, channel: str) -> None:
    at = f"channels/{channel}"
    for refused in (at, f"{at}?confirm=yes", f"{at}?confirm={channel}x"):
        answer = await api("DELETE", refused)
        assert (answer.status, answer.body["type"]) == (400, "urn:switchboard:problem:ConfirmationMissing")
    assert (await api("DELETE", f"{at}?dry_run=true")).status == 200
    assert (await api("GET", f"{at}?min_version=1")).body["retired"] is False
    assert (await api("DELETE", f"{at}?confirm={channel}")).status == 200
