"""Verifying copies of the log: each kind of tampering is found, and the record is named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import topics
from contracts.approvals import SaveApprovals
from contracts.business_system import DeleteBusinessSystem, OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.proposed_change import ApproveChange, ProposeChange
from contracts.sms import ToggleSms
from services.audit.log.copied_log import CopiedLog, CopiedRecord
from services.audit.log.errors import AuditError, BrokenLog, DamagedLog
from services.audit.log.source import LogPosition, LogRecord, OffsetRange, Progress, no_progress, position_of
from services.audit.settings_files.undo import command_at
from services.audit.timeline.settings_at import channel_at, parse_moment
from services.audit.verification.anchor import MARKS_LIMIT, Anchor, RunningDigest, make_key, read_anchor, read_key, sign
from services.audit.verification.replay import replay
from services.audit.verification.verify import Report, verify
from tests.audit import MadeUpLog, copy_of, rechained

CHANNELS = ("ch-1", "ch-2", "ch-8")


def a_log() -> MadeUpLog:
    """Three channels on two partitions, with switches, and a business system that came and went.

    Two proposed changes differ in nothing but what they change: one is approved, which makes the other void.
    """
    log = MadeUpLog()
    for channel in CHANNELS:
        log.send(
            channel, RegisterChannel(channel_type="whatsapp", name=f"Shop {channel}", enterprise_authenticated=True)
        )
    for turn in range(6):
        log.now += 1_000
        for channel in CHANNELS:
            log.send(channel, ToggleSms(enabled=turn % 2 == 0))
    log.send("ch-1", OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example"))
    log.send("ch-1", OpenBusinessSystem(system="erp", name="ERP", api_request_url="https://erp.example"))
    log.send("ch-1", DeleteBusinessSystem(system="erp"))
    log.send("ch-2", SaveApprovals(required_for=["otp-scheduling"]))
    for change, country in (("c-1", "ID"), ("c-2", "IN")):
        log.send("ch-2", ProposeChange.model_validate({"change": change, "command": _form(country)}))
    log.send("ch-2", ApproveChange(change="c-2"), actor="boss")
    return log


def _form(country: str) -> dict[str, Any]:
    data = {"enabled": True, "countries": [country], "use_own_numbers": False}
    return {"type": "SaveOtpScheduling", "data": data}


async def found_in(path: Path, records: list[CopiedRecord], anchor: Anchor | None = None) -> Report:
    return await verify(copy_of(path / "log.jsonl", records), anchor)


async def anchor_of(path: Path, log: MadeUpLog) -> Anchor:
    report = await found_in(path, log.records)
    return sign(topics.EVENTS.name, "2026-11-22T08:00:00.000Z", report.anchors, Ed25519PrivateKey.generate())


async def test_a_sound_log(tmp_path: Path) -> None:
    log = a_log()
    report = await found_in(tmp_path, log.records + log.state_records(), await anchor_of(tmp_path, log))
    assert report.findings == []
    assert (report.events, report.channels, report.compared_state) == (len(log.records), 3, 3)
    assert report.anchored == 2


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_one_flipped_bit_is_found_and_the_record_named(tmp_path: Path, data: st.DataObject) -> None:
    log = a_log()
    index = data.draw(st.integers(0, len(log.records) - 1))
    value = bytearray(log.records[index].value or b"")
    place = data.draw(st.integers(0, len(value) - 1))
    value[place] ^= 1 << data.draw(st.integers(0, 7))
    records = list(log.records)
    records[index] = replace(records[index], value=bytes(value))
    report = await found_in(tmp_path, records + log.state_records())
    assert report.findings, "the flipped bit was not found"
    named = {finding.position for finding in report.findings}
    assert position_of(records[index]) in named
    of_its_partition = [one.position for one in report.findings if one.position.partition == records[index].partition]
    assert min(of_its_partition) == position_of(records[index])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_one_dropped_event_is_found(tmp_path: Path, data: st.DataObject) -> None:
    log = a_log()
    index = data.draw(st.integers(0, len(log.records) - 1))
    dropped = log.records[index]
    records = log.records[:index] + log.records[index + 1 :]
    following = next((one for one in records[index:] if one.partition == dropped.partition), None)
    report = await found_in(tmp_path, records + log.state_records())
    if following is None:
        assert "the later ones were taken out" in report.findings[0].what
    else:
        assert report.findings[0].position == position_of(following)
        assert "missing before it" in report.findings[0].what


async def test_a_rewritten_history_is_found_only_against_an_anchor(tmp_path: Path) -> None:
    log = a_log()
    anchor = await anchor_of(tmp_path, log)
    index = next(at for at, record in enumerate(log.records) if record.key == b"ch-2")
    records = rechained(log.records, index, b"Shop ch-2", b"Shop ch-X")
    assert (await found_in(tmp_path, records)).sound
    report = await found_in(tmp_path, records, anchor)
    assert [finding.position for finding in report.findings] == [position_of(records[index])]
    assert "not the event that was anchored" in report.findings[0].what
    # With the state as it was, its heads tell too; an insider would rewrite that as well.
    assert not (await found_in(tmp_path, records + log.state_records())).sound


async def test_an_impossible_event_is_a_finding(tmp_path: Path) -> None:
    log = a_log()
    index = next(
        at for at, record in enumerate(log.records) if b'"type":"BusinessSystemDeleted"' in (record.value or b"")
    )
    records = rechained(log.records, index, b"erp", b"shop")

    (finding,) = (await found_in(tmp_path, records)).findings
    assert finding.position == position_of(records[index])
    assert finding.what == "it cannot have happened: business system 'shop' is not open"
    with pytest.raises(BrokenLog, match="business system 'shop' is not open"):
        await replay(copy_of(tmp_path / "copy.jsonl", records))
    with pytest.raises(BrokenLog, match="business system 'shop' is not open"):
        await command_at(copy_of(tmp_path / "copy.jsonl", records), "ch-1", 1)


async def test_the_end_taken_out_is_found_only_against_an_anchor(tmp_path: Path) -> None:
    log = a_log()
    anchor = await anchor_of(tmp_path, log)
    last = log.records[-1]
    assert (await found_in(tmp_path, log.records[:-1])).sound
    report = await found_in(tmp_path, log.records[:-1], anchor)
    assert "were taken out" in report.findings[0].what
    assert report.findings[0].position.partition == last.partition


async def test_what_came_after_the_anchor_is_no_finding(tmp_path: Path) -> None:
    log = a_log()
    anchor = await anchor_of(tmp_path, log)
    log.send("ch-1", ToggleSms(enabled=True))
    assert (await found_in(tmp_path, log.records + log.state_records(), anchor)).sound


async def test_a_state_that_is_not_the_fold(tmp_path: Path) -> None:
    log = a_log()
    state = [
        replace(record, value=(record.value or b"").replace(b'{"v":1,', b'{"v":1,"sms_enabled":true,'))
        if record.key == b"ch-8"
        else record
        for record in log.state_records()
    ]
    report = await found_in(tmp_path, log.records + state)
    assert [(one.channel, one.what) for one in report.findings] == [
        ("ch-8", "its record in channel-state is not what the events fold to: sms_enabled")
    ]


@pytest.mark.parametrize("value", [b"", b"{", b"7", b'{"v":1}', b'{"v":99}', b"\xff\x00"])
async def test_state_records_that_cannot_be_read(tmp_path: Path, value: bytes) -> None:
    log = a_log()

    async def replaced(key: bytes) -> list[str]:
        state = [replace(one, value=value) if one.key == key else one for one in log.state_records()]
        return [one.what for one in (await found_in(tmp_path, log.records + state)).findings]

    assert "its record in channel-state cannot be read" in await replaced(b"ch-8")
    assert "the record of business system 'crm' in channel-state cannot be read" in await replaced(b"ch-1/crm")
    if value not in (b"", b'{"v":1}', b'{"v":99}'):
        assert "the checkpoint of channel-state cannot be read" in await replaced(b"~checkpoint")


async def test_a_replay_of_a_copy(tmp_path: Path) -> None:
    log = a_log()
    copy = copy_of(tmp_path / "log.jsonl", log.records + log.state_records())
    replayed = await replay(copy)
    assert (replayed.events, replayed.compared, replayed.differences) == (len(log.records), 3, [])
    assert [end.offset for end in replayed.read_to] == [cut.offset + 1 for cut in replayed.cuts]
    half = await replay(copy, log.times["ch-1"][4])
    assert (half.events < replayed.events, half.compared) == (True, 0)
    short = await replay(copy_of(tmp_path / "short.jsonl", log.records[:-1] + log.state_records()))
    assert "but the log has" in short.differences[0]


class DamagedCopy(CopiedLog):
    """A copy that tells of a wrong checksum as a log at a broker does: of a place before the record."""

    def __init__(self, path: Path, wrong: int, *, read_event: bool) -> None:
        super().__init__(path)
        self._wrong, self._readable = wrong, read_event

    async def read(
        self, source: TopicPartition, offsets: OffsetRange, progress: Progress = no_progress, *, unchecked: bool = False
    ) -> AsyncIterator[Sequence[LogRecord]]:
        until = offsets.end if unchecked and self._readable else self._wrong
        if offsets.first < until:
            async for batch in super().read(source, OffsetRange(offsets.first, min(until, offsets.end)), progress):
                yield batch
        if until < offsets.end:
            raise DamagedLog(LogPosition(source.topic, source.partition, max(offsets.first, self._wrong - 1)))


async def test_a_wrong_checksum_is_named_and_read_over(tmp_path: Path) -> None:
    log = MadeUpLog(partitions=1)
    log.send("ch-1", RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True))
    for turn in range(6):
        log.send("ch-1", ToggleSms(enabled=turn % 2 == 0))
    copy_of(tmp_path / "log.jsonl", log.records)
    wrong = log.records[3]
    report = await verify(DamagedCopy(tmp_path / "log.jsonl", wrong.offset, read_event=True))
    assert (report.events, [one.position for one in report.findings]) == (7, [position_of(wrong)])
    assert "the checksum of the records from here on is wrong" in report.findings[0].what
    report = await verify(DamagedCopy(tmp_path / "log.jsonl", wrong.offset, read_event=False))
    assert report.events == 3
    assert "nothing from here on can be read" in report.findings[-1].what
    with pytest.raises(AuditError, match="The log is damaged"):
        await channel_at(
            DamagedCopy(tmp_path / "log.jsonl", wrong.offset, read_event=True), "ch-1", [parse_moment("now")], 0
        )


async def test_a_partition_that_is_not_there(tmp_path: Path) -> None:
    log = a_log()
    copy = copy_of(tmp_path / "log.jsonl", log.records)
    with pytest.raises(AuditError, match="The log has no partition 9"):
        await verify(copy, partitions=[9])
    anchor = await anchor_of(tmp_path, log)
    rest = copy_of(tmp_path / "rest.jsonl", [one for one in log.records if one.partition == 0])
    report = await verify(rest, anchor)
    assert (report.anchored, "the later ones were taken out" in report.findings[0].what) == (2, True)


async def test_an_anchor_is_signed(tmp_path: Path) -> None:
    log = a_log()
    public = make_key(tmp_path / "key.pem")
    report = await found_in(tmp_path, log.records)
    anchor = sign(topics.EVENTS.name, "2026-11-22T08:00:00.000Z", report.anchors, read_key(tmp_path / "key.pem"))
    file = tmp_path / "anchor.json"
    file.write_text(anchor.model_dump_json(indent=3))
    assert read_anchor(file, public) == anchor
    assert read_anchor(file, None) == anchor
    other = make_key(tmp_path / "other.pem")
    with pytest.raises(AuditError, match="another key"):
        read_anchor(file, other)
    file.write_text(file.read_text().replace('"count": ', '"count": 1'))
    with pytest.raises(AuditError, match="changed since it was signed"):
        read_anchor(file, public)
    with pytest.raises(AuditError, match="never overwritten"):
        make_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


def test_marks_thin_out_and_still_tell_where() -> None:
    running = RunningDigest()
    at = {0: ""}
    for number in range(5 * MARKS_LIMIT):
        running.add(f"{number:064x}")
        at[running.count] = running.hexdigest()
    anchor = running.anchor(0)
    assert len(anchor.marks) < MARKS_LIMIT
    marks = [count for count in at if count and anchor.digest_at(count) is not None]
    assert all(anchor.digest_at(count) == at[count] for count in marks)
    assert marks[-1] == anchor.count == 5 * MARKS_LIMIT
    assert max(later - earlier for earlier, later in pairwise(marks)) <= anchor.step
