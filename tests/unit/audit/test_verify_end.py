"""What `verify` and `replay` find at a partition's end, where nothing follows that would tell."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from contracts import topics
from contracts.business_system import OpenBusinessSystem
from contracts.channel import RegisterChannel, RetireChannel
from contracts.intent import AddIntent
from contracts.sms import ToggleSms
from services.audit.log import source
from services.audit.log.copied_log import CopiedLog, CopiedRecord
from services.audit.log.source import position_of
from services.audit.verification import state_records
from services.audit.verification.replay import replay
from services.audit.verification.verify import verify
from services.cli import audit_commands
from tests.audit import MadeUpLog, copy_of

REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
INTENT = AddIntent(system="crm", code="A", name="A", default_data={"amount": -5, "flag": True})


def a_log() -> MadeUpLog:
    log = MadeUpLog(partitions=1)
    log.send("ch-1", REGISTER)
    log.send("ch-1", OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example"))
    log.send("ch-1", INTENT)
    return log


def live(path: Path, records: Sequence[CopiedRecord]) -> CopiedLog:
    """A copy that is read as the broker's log is: all partitions are there, and it may go on."""
    log = copy_of(path / "log.jsonl", records)
    log.partitions = 1
    return log


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (source, state_records):
        monkeypatch.setattr(module, "WAITS_S", (0.0,))


async def test_an_event_that_no_decider_appended(tmp_path: Path) -> None:
    log = a_log()
    state = log.state_records()
    sound = live(tmp_path, log.records + state)
    assert ((await verify(sound)).findings, (await replay(sound)).differences) == ([], [])
    log.send("ch-1", ToggleSms(enabled=True))
    log.send("ch-1", ToggleSms(enabled=False))
    forged = live(tmp_path, log.records + state)
    (finding,) = (await verify(forged)).findings
    assert finding.position == position_of(log.records[-2])
    assert "channel-state does not count it, nor event 6" in finding.what
    assert "no decider appended the later ones" in (await replay(forged)).differences[0]


async def test_no_anchor_of_an_event_that_no_decider_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = a_log()
    state = log.state_records()
    forged = live(tmp_path, log.records + state)

    @asynccontextmanager
    async def opened(_: Path | None) -> AsyncIterator[CopiedLog]:
        yield forged

    monkeypatch.setattr(audit_commands, "open_log", opened)
    key, kept = tmp_path / "key.pem", tmp_path / "anchor.json"
    assert await audit_commands.write_anchor(key, kept, None, make_key=True) == 0
    assert kept.exists()
    kept.unlink()
    log.send("ch-1", ToggleSms(enabled=True))
    forged = live(tmp_path, log.records + state)
    capsys.readouterr()
    assert await audit_commands.write_anchor(key, kept, None, make_key=False) == 1
    assert "no decider appended it" in capsys.readouterr().out
    assert not kept.exists()


async def test_a_channel_that_an_earlier_release_retired(tmp_path: Path) -> None:
    """It deleted the business systems; a record of one that is left is named all the same."""
    log = a_log()
    log.send("ch-1", RetireChannel())
    kept = log.state_records()
    (whole,) = [one for one in kept if one.key == b"ch-1"]
    emptied = {**json.loads(whole.value or b""), "systems": {}}
    earlier = [
        replace(one, value=json.dumps(emptied, separators=(",", ":")).encode()) if one is whole else one
        for one in kept
        if one.key != b"ch-1/crm"
    ]
    sound = live(tmp_path, log.records + earlier)
    assert ((await verify(sound)).findings, (await replay(sound)).differences) == ([], [])
    left = [replace(one, offset=len(kept)) for one in kept if one.key == b"ch-1/crm"]
    (finding,) = (await verify(live(tmp_path, log.records + earlier + left))).findings
    assert "a record 'ch-1/crm' that no event led to" in finding.what
    lost = [one for one in kept if one.key != b"ch-1/crm"]
    (finding,) = (await verify(live(tmp_path, log.records + lost))).findings
    assert "business system 'crm' in channel-state is missing" in finding.what


@pytest.mark.parametrize("events", [True, False])
async def test_a_checkpoint_that_was_deleted(tmp_path: Path, events: bool) -> None:  # noqa: FBT001 -- a case
    log = a_log()
    state = [replace(one, value=None) if one.key == b"~checkpoint" else one for one in log.state_records()]
    damaged = live(tmp_path, (log.records if events else []) + state)
    findings = (await verify(damaged)).findings
    assert [finding.position.topic for finding in findings] == [topics.CHANNEL_STATE.name]
    assert "channel-state has no checkpoint" in findings[0].what
    if events:
        assert (await replay(damaged)).differences == ["channel-state has no checkpoint of partition 0"]


@pytest.mark.parametrize("counted", [0, 5])
async def test_state_of_a_partition_without_events(tmp_path: Path, counted: int) -> None:
    log = a_log()
    value = b'{"v":1,"partitionsequence":%d}' % counted
    state = [replace(one, value=value) if one.key == b"~checkpoint" else one for one in log.state_records()]
    clause = "counts 5 events" if counted else "has a record 'ch-1' that no event led to"
    for damaged in (live(tmp_path, state), copy_of(tmp_path / "copy.jsonl", state)):
        assert any(clause in finding.what for finding in (await verify(damaged)).findings)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"amount":-5', b'"amount":-5.0'), (b'"flag":true', b'"flag":1'), (b'"version":4', b'"version":4.0')],
)
async def test_state_with_another_json_value(tmp_path: Path, old: bytes, new: bytes) -> None:
    log = a_log()
    state = log.state_records()
    changed = [replace(one, value=(one.value or b"").replace(old, new)) for one in state]
    assert changed != state
    (finding,) = (await verify(copy_of(tmp_path / "log.jsonl", log.records + changed))).findings
    assert "has another JSON value than the events" in finding.what


async def test_a_default_that_is_spelled_out_is_no_difference(tmp_path: Path) -> None:
    log = a_log()
    state = [
        replace(one, value=(one.value or b"").replace(b',"name":', b',"retired":false,"name":'))
        if one.key == b"ch-1"
        else one
        for one in log.state_records()
    ]
    assert (await verify(copy_of(tmp_path / "log.jsonl", log.records + state))).sound
