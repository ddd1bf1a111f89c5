"""A backup that was cut off, changed or not finished is refused in one sentence; a mirror is held against an anchor."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts import topics
from contracts.channel import RegisterChannel
from contracts.message import rfc3339
from contracts.sms import ToggleSms
from services.audit.log.backup import (
    CHECKSUMS,
    LOG,
    MANIFEST,
    UNFINISHED,
    Manifest,
    new_directory,
    open_backup,
    write_backup,
)
from services.audit.log.copied_log import CopiedLog, CopiedRecord
from services.audit.log.errors import AuditError
from services.audit.log.source import OffsetRange
from services.audit.verification.anchor import sign
from services.audit.verification.verify import verify
from tests.audit import START, MadeUpLog, copy_of

_SECRETS = TopicPartition(topics.SIGNATURES.name, 0)


def _log(path: Path) -> CopiedLog:
    made_up = MadeUpLog(partitions=1)
    made_up.send("ch-1", RegisterChannel(channel_type="whatsapp", name="Café", enterprise_authenticated=True))
    for number in range(5):
        made_up.send("ch-1", ToggleSms(enabled=number % 2 == 0))
    secrets = [
        CopiedRecord(_SECRETS.topic, _SECRETS.partition, offset, START, key, value, ())
        for offset, (key, value) in enumerate(
            [(b"a", b'{"kek":"k1"}'), (b"b", b'{"kek":"k2"}'), (b"c", b"\xff"), (b"b", None)]
        )
    ]
    log = copy_of(path, made_up.records + made_up.state_records() + secrets)
    log.partitions = 1
    return log


async def _backup(directory: Path, log: CopiedLog, read_compacted_by: float = math.inf) -> Manifest:
    ranges = await log.offset_ranges(topics.EVENTS.name, topics.CHANNEL_STATE.name, topics.SIGNATURES.name)
    ranges[TopicPartition(topics.USAGE.name, 0)] = OffsetRange(3, 7)
    with new_directory(directory):
        return await write_backup(
            directory, log, ranges, made_at=rfc3339(START), release="1", read_compacted_by=read_compacted_by
        )


async def test_a_backup_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = await _backup(tmp_path / "backup", _log(tmp_path / "log"))

    backup = open_backup(tmp_path / "backup")
    assert backup.manifest == written
    assert written.keys == ("k1", "unknown")
    assert written.ranges()[TopicPartition(topics.USAGE.name, 0)] == OffsetRange(3, 7)
    assert (await verify(backup.log)).findings == []
    assert [path.stat().st_mode & 0o077 for path in (tmp_path / "backup").iterdir()] == [0, 0, 0]
    with pytest.raises(AuditError, match="is not empty; give each backup a directory of its own"):
        await _backup(tmp_path / "backup", _log(tmp_path / "log"))


class _CutOff(CopiedLog):
    """Ends the backup after the first topic, as a kill does: nothing is tidied up."""

    def read(self, source: TopicPartition, *arguments: Any, **options: Any) -> Any:
        if source.topic == topics.EVENTS.name:
            raise KeyboardInterrupt
        return super().read(source, *arguments, **options)


async def test_an_unfinished_backup_says_so_and_is_begun_anew(tmp_path: Path) -> None:
    directory, log = tmp_path / "backup", _log(tmp_path / "log")
    cut_off = _CutOff(tmp_path / "log")
    cut_off.partitions = 1
    with pytest.raises(KeyboardInterrupt):
        await _backup(directory, cut_off)
    assert (directory / LOG).stat().st_size > 0

    with pytest.raises(AuditError, match="this backup was not finished; `switchboard backup "):
        open_backup(directory)
    with new_directory(directory), pytest.raises(AuditError, match="Another process writes a backup to"):
        await _backup(directory, log)
    written = await _backup(directory, log)

    assert open_backup(directory).manifest == written
    assert {path.name for path in directory.iterdir()} == {LOG, MANIFEST, CHECKSUMS}


@pytest.mark.parametrize("name", [LOG, "notes.txt"])
async def test_a_file_of_somebody_else_is_left_alone(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "backup"
    directory.mkdir()
    (directory / name).write_text("mine")
    if name != LOG:
        (directory / UNFINISHED).touch()

    with pytest.raises(AuditError, match="is not empty"):
        await _backup(directory, _log(tmp_path / "log"))
    assert (directory / name).read_text() == "mine"


async def test_compacted_topics_that_were_read_too_late_are_no_backup(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="compacted topics were read too slowly"):
        await _backup(tmp_path / "backup", _log(tmp_path / "log"), read_compacted_by=-math.inf)
    with pytest.raises(AuditError, match="this backup was not finished"):
        open_backup(tmp_path / "backup")


async def test_compacted_topics_are_read_first(tmp_path: Path) -> None:
    await _backup(tmp_path / "backup", _log(tmp_path / "log"))

    read = [json.loads(line)["topic"] for line in (tmp_path / "backup" / LOG).read_text().splitlines()]
    compacted = {topic.name for topic in topics.COMPACTED}
    assert read == sorted(read, key=lambda topic: topic not in compacted)
    assert compacted & set(read) != set(read)


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "cut off": (LOG, lambda data: data[: len(data) // 2]),
    "a line lost": (LOG, lambda data: data[data.index(b"\n") + 1 :]),
    "a byte flipped": (LOG, lambda data: data.replace(b"Caf", b"Bar", 1)),
    "other offsets": (MANIFEST, lambda data: data.replace(b"7", b"8", 1)),
    "no log": (LOG, lambda _: None),
    "no manifest": (MANIFEST, lambda _: None),
    "not finished": (CHECKSUMS, lambda _: None),
    "half the checksums": (CHECKSUMS, lambda data: data[: data.index(b"\n")]),
    "no text": (CHECKSUMS, lambda _: b"\xff\xfe"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_backup_is_refused(damage: str, tmp_path: Path) -> None:
    await _backup(tmp_path / "backup", _log(tmp_path / "log"))
    name, change = DAMAGES[damage]
    path = tmp_path / "backup" / name
    changed = change(path.read_bytes())
    if changed is None:
        path.unlink()
    else:
        assert changed != path.read_bytes()
        path.write_bytes(changed)

    with pytest.raises(AuditError) as refused:
        open_backup(tmp_path / "backup")
    assert str(tmp_path / "backup") in str(refused.value)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize("lost", [None, 2, 5])
async def test_a_mirror_with_offsets_of_its_own_is_held_against_an_anchor(lost: int | None, tmp_path: Path) -> None:
    """As a mirror to another cluster: the same records, without the holes. One that lacks a record is found out."""
    log = _log(tmp_path / "log")
    anchor = sign(topics.EVENTS.name, rfc3339(START), (await verify(log)).anchors, Ed25519PrivateKey.generate())
    events = TopicPartition(topics.EVENTS.name, 0)
    records = [
        record
        async for batch in log.read(events, (await log.offset_ranges(events.topic))[events])
        for record in batch
        if isinstance(record, CopiedRecord)
    ]
    del records[slice(0, 0) if lost is None else slice(lost, lost + 1)]
    mirrored = [replace(record, offset=offset) for offset, record in enumerate(records)]
    mirror = copy_of(tmp_path / "mirror", mirrored)

    report = await verify(mirror, anchor)

    assert report.anchored == 1
    assert report.sound == (lost is None)
