"""What the history says of events and rejections is what an independent fold of the log says."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from services.audit.log.kafka_log import KafkaLog
from services.audit.timeline.audit_log import AuditFilter, ranges_to_read, read_audit_log
from tests.installation import Installation, fresh
from tests.read_models import history_of, load

pytestmark = pytest.mark.timeout(120)


async def test_equal_to_the_audit_of_the_log(installation: Installation) -> None:
    """Who, what, before and after of every entry, told independently by a fold of the log."""
    account, channels = fresh("acct"), [fresh("ch") for _ in range(3)]
    async with installation.api(account) as api, installation.publisher(account) as publisher:
        await load(publisher, Random(5), channels, 250)  # noqa: S311 -- repeatable, not secret
        seen = []
        for channel in channels:
            last = await publisher.send_raw("AddIntent", {"system": "none", "code": "X"}, channel=channel)
            assert not last.accepted
            version = last.version
            if version is None:
                version = (
                    await publisher.send_raw("RevokeSignature", {"system": "no", "key_id": "x"}, channel=channel)
                ).version
            entries = await history_of(api, channel, version or 1)
            seen.append([one for one in entries if one["type"] != "CommandRejected"])
    for channel, entries in zip(channels, seen, strict=True):
        async with KafkaLog(installation.bootstrap_servers, {}) as log:
            asked = AuditFilter(channel=channel)
            told = read_audit_log(log, asked, await ranges_to_read(log, asked))
            expected = [one.as_json() async for one in told if one.rejection is None]
        names = ("id", "time", "account", "channel", "type", "command", "command_id", "actor", "source", "version",
                 "resource", "before", "after", "data")  # fmt: skip
        assert [{name: one.get(name) for name in names} for one in reversed(entries)] == [
            {name: one.get(name) for name in names} for one in expected
        ]


async def test_a_rejection_is_the_same_in_the_history_and_in_the_audit_of_the_log(installation: Installation) -> None:
    account, channel = fresh("acct"), fresh("ch")
    refused: list[tuple[str, dict[str, Any]]] = [
        ("AddIntent", {"system": "none", "code": "X"}),
        ("AddIntent", {"system": "none", "code": "X", "name": "X", "default_data": {}}),
        ("RevokeSignature", {"system": "none", "key_id": "key-1"}),
    ]
    async with installation.api(account) as api, installation.publisher(account) as publisher:
        form = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
        await publisher.send_raw("RegisterChannel", form, channel=channel)
        for kind, data in refused:
            assert not (await publisher.send_raw(kind, data, channel=channel, actor="jo@acme")).accepted
        async with asyncio.timeout(30):
            while len(entries := await history_of(api, channel, 1)) <= len(refused):  # noqa: ASYNC110 -- nobody tells
                await asyncio.sleep(0.1)
    async with KafkaLog(installation.bootstrap_servers, {}) as log:
        asked = AuditFilter(channel=channel)
        told = [one.as_json() async for one in read_audit_log(log, asked, await ranges_to_read(log, asked))]
    names = ("id", "account", "type", "command", "command_id", "actor", "source", "rejection", "message", "data")
    in_history, in_audit = (
        {one["id"]: {name: one.get(name) for name in names} for one in several if one["type"] == "CommandRejected"}
        for several in (entries, told)
    )
    assert in_history == in_audit
    assert len(in_audit) == len(refused)
