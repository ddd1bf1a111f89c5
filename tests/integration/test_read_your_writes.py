"""``?min_version=``: whoever wrote reads what they wrote, and a read model that is behind says so in time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from services.gateway import reads
from tests.gateways import gateway
from tests.installation import Answer, Installation, fresh
from tests.receivers import Receiver

SHOP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}


async def test_everybody_reads_their_own_writes(installation: Installation) -> None:
    """The version that a command's answer gives is there when it is asked for, on every read of the channel."""
    account, channel = fresh("acct"), fresh("ch")
    async with installation.api(None, **{"Switchboard-Account": account}) as platform:
        assert (await platform("PUT", f"channels/{channel}", SHOP)).status == 201
    async with installation.api(account) as api:
        for turn in range(12):
            written = (await api("PUT", f"channels/{channel}/sms", {"enabled": turn % 2 == 0})).body["version"]
            path = ("sms", "settings", "otp-scheduling", "business-systems")[turn % 4]
            read = await api("GET", f"channels/{channel}/{path}?min_version={written}")
            assert read.status == 200
            if path == "sms":
                assert (read.body, read.headers["ETag"]) == ({"enabled": turn % 2 == 0}, f'"{written}"')
            if path == "settings":
                assert read.body["version"] >= written
            entries = (await api("GET", f"channels/{channel}/history?min_version={written}&limit=1")).body["entries"]
            assert entries[0]["version"] == written


async def test_a_version_that_does_not_come_is_answered_in_time(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "READ_MODEL_TIMEOUT_S", 0.3)
    account, channel = fresh("acct"), fresh("ch")
    async with installation.publisher(account) as publisher, gateway(installation, account) as (api, _):
        await publisher.send_raw("RegisterChannel", SHOP, channel=channel)
        while (await api("GET", f"channels/{channel}")).status != 200:
            pass
        begun = time.monotonic()
        behind = await api("GET", f"channels/{channel}/settings?min_version=7")
        assert time.monotonic() - begun >= 0.3
        assert (behind.status, behind.body["title"], behind.body["version"]) == (504, "Read model behind", 1)
        assert behind.headers["Content-Type"] == "application/problem+json"
        for wrong in ("-1", "seven", "1.5"):
            assert (await api("GET", f"channels/{channel}/settings?min_version={wrong}")).status == 400


async def test_another_accounts_channel_is_waited_for_as_one_that_nobody_registered(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "READ_MODEL_TIMEOUT_S", 0.3)
    theirs, nobodys = fresh("ch"), fresh("ch")
    async with installation.publisher(fresh("acct")) as publisher, gateway(installation, fresh("acct")) as (api, _):
        await publisher.send_raw("RegisterChannel", SHOP, channel=theirs)
        answers = []
        for channel in (theirs, nobodys):
            begun = time.monotonic()
            answer = await api("GET", f"channels/{channel}/settings?min_version=1")
            assert time.monotonic() - begun >= 0.3
            answers.append((answer.status, answer.body))
        assert answers[0] == answers[1]
        assert answers[0][0] == 504


async def test_requests_that_rely_on_a_write_wait_for_it(installation: Installation, receiver: Receiver) -> None:
    """Each is sent before the write that it relies on, and answered after it."""
    account, channel = fresh("acct"), fresh("ch")
    crm = {"system": "crm", "code": "ORDER"}
    marketing = {"recipient": "+6591234567", "category": "marketing"}
    status = {"status": "sent", "via": "chat", "at": "2026-11-26T08:00:00Z"}
    asked: dict[str, tuple[str, dict[str, Any] | None]] = {
        "GET invocations": ("?min_version=1", None),
        "GET messages": ("?min_version=1", None),
        "PUT listeners/laptop": ("?min_version=1", {"system": "erp"}),
        "POST what-if": ("?min_version=1", {}),
        "POST messages/m-1/statuses": ("?min_version=1", status),
        "POST message-decisions": ("?dry_run=true&min_version=1", marketing),
        "POST invocations": ("?dry_run=true&min_version=4", crm),
        "POST business-systems/crm/test-calls": ("?min_version=4", {}),
        "POST business-systems/crm/intents/ORDER/trigger": ("?min_version=4", {}),
        "POST business-systems/crm/signature/old/retirement": ("?min_version=4", None),
    }
    async with (
        installation.api(None, **{"Switchboard-Account": account}) as platform,
        installation.api(account) as api,
    ):

        async def ask(operation: str, query: str, body: dict[str, Any] | None) -> Answer:
            method, path = operation.split()
            return await api(method, f"channels/{channel}/{path}{query}", body)

        tasks = {operation: asyncio.ensure_future(ask(operation, *how)) for operation, how in asked.items()}
        early, _ = await asyncio.wait(tasks.values(), timeout=0.5)
        assert not early, "answered before the write"
        assert (await platform("PUT", f"channels/{channel}", SHOP)).status == 201
        system = f"channels/{channel}/business-systems/crm"
        assert (await api("PUT", system, {"name": "CRM", "api_request_url": receiver.url("crm")})).status == 201
        added = await api("PUT", f"{system}/intents/ORDER", {"name": "Order", "default_data": {}})
        answers = {operation: await task for operation, task in tasks.items()}

    assert added.body["version"] == 4, "opened and signed are two"
    unproven = answers.pop("POST business-systems/crm/signature/old/retirement")
    assert unproven.body["type"] == "urn:switchboard:problem:SignatureNotProven"
    assert {answer.status for answer in answers.values()} == {200, 202}, answers
    assert answers["POST invocations"].body["would"] == "call"
    test_call = answers["POST business-systems/crm/test-calls"].body["delivery"]
    assert test_call["request"]["settings_version"] == 4, "the invoker waits for it too"
    assert len(receiver.calls["crm"]) == 1
