"""Random damages of a log and its state, by seed: `verify` must name the partition, or the manual exclude it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from contracts import topics
from contracts.approvals import SaveApprovals
from contracts.business_system import DeleteBusinessSystem, DisableBusinessSystem, OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.intent import AddIntent
from contracts.message import CommandData, rfc3339
from contracts.partitioner import partition_of
from contracts.proposed_change import ApplyChange, ApproveChange, DeclineChange, ProposeChange
from contracts.signature import RefreshSignature
from contracts.sms import ToggleSms
from services.audit.log.copied_log import CopiedRecord
from services.audit.verification.verify import Report, verify
from tests.audit import MadeUpLog, copy_of

CHANNELS = ("ch-1", "ch-2", "ch-3", "ch-8", "ch-9")
"""On two partitions; the third one never had an event."""
PARTITIONS = 3
Records = list[CopiedRecord]


def made_up_log(chance: random.Random) -> MadeUpLog:
    log = MadeUpLog(partitions=PARTITIONS)
    for channel in CHANNELS:
        log.send(channel, RegisterChannel(channel_type="whatsapp", name=channel, enterprise_authenticated=True))
    for turn in range(80):
        log.now += chance.randrange(2_000)
        channel, system = chance.choice(CHANNELS), chance.choice(("crm", "erp"))
        command = chance.choice(
            (
                ToggleSms(enabled=turn % 2 == 0),
                OpenBusinessSystem(system=system, name=system, api_request_url="https://a.example/x"),
                AddIntent(system=system, code=f"I{turn}", name="I", default_data={"amount": turn, "flag": True}),
                RefreshSignature(system=system, grace_seconds=3),
                DisableBusinessSystem(system=system),
                DeleteBusinessSystem(system=system, force=True),
                *_approvals(chance, log, channel, f"c-{turn}"),
            )
        )
        log.send(channel, command, actor=chance.choice(("anna", "bert")))
    return log


def _approvals(chance: random.Random, log: MadeUpLog, channel: str, new: str) -> tuple[CommandData, ...]:
    """Commands of four eyes: some propose the change ``new``, the others decide on an open one."""
    known = log.state(channel).channel
    change = chance.choice(list(known.open_changes if known is not None else ()) or ["unknown"])
    form = {"enabled": True, "countries": [chance.choice(("ID", "IN"))], "use_own_numbers": False}
    at = chance.choice((None, rfc3339(log.now + 3_000)))
    return (
        SaveApprovals(required_for=["otp-scheduling"]),
        ProposeChange.model_validate(
            {"change": new, "at": at, "command": {"type": "SaveOtpScheduling", "data": form}, "comment": "for Jakarta"}
        ),
        ProposeChange.model_validate(
            {"change": new, "at": at, "command": {"type": "EditBusinessSystem", "data": {"system": "crm", "name": new}}}
        ),
        ApproveChange(change=change),
        ApproveChange(change=change, comment="seen"),
        DeclineChange(change=change),
        ApplyChange(change=change),
    )


def _index(chance: random.Random, records: Records, topic: str) -> int:
    return chance.choice([at for at, record in enumerate(records) if record.topic == topic])


def _flipped(chance: random.Random, value: bytes) -> bytes:
    changed = bytearray(value)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def flip_event(chance: random.Random, records: Records) -> tuple[Records, int]:
    at = _index(chance, records, topics.EVENTS.name)
    return _with(records, at, value=_flipped(chance, records[at].value or b"")), records[at].partition


def drop_event(chance: random.Random, records: Records) -> tuple[Records, int]:
    at = _index(chance, records, topics.EVENTS.name)
    return records[:at] + records[at + 1 :], records[at].partition


def swap_events(chance: random.Random, records: Records) -> tuple[Records, int]:
    at = _index(chance, records, topics.EVENTS.name)
    same = [
        one
        for one, record in enumerate(records)
        if (record.topic, record.partition) == (records[at].topic, records[at].partition) and one != at
    ]
    other = chance.choice(same)
    first, second = records[at], records[other]
    changed = _with(records, at, key=second.key, value=second.value)
    return _with(changed, other, key=first.key, value=first.value), first.partition


def repeat_event(chance: random.Random, records: Records) -> tuple[Records, int]:
    at = _index(chance, records, topics.EVENTS.name)
    return [*records[: at + 1], replace(records[at], offset=records[at].offset + 1), *records[at + 1 :]], records[
        at
    ].partition


def change_key(chance: random.Random, records: Records) -> tuple[Records, int]:
    at = _index(chance, records, topics.EVENTS.name)
    return _with(records, at, key=_flipped(chance, records[at].key or b"")), records[at].partition


def flip_state(chance: random.Random, records: Records) -> tuple[Records, int]:
    at = _index(chance, records, topics.CHANNEL_STATE.name)
    return _with(records, at, value=_flipped(chance, records[at].value or b"")), records[at].partition


def drop_state(chance: random.Random, records: Records) -> tuple[Records, int]:
    at = _index(chance, records, topics.CHANNEL_STATE.name)
    return records[:at] + records[at + 1 :], records[at].partition


def tombstone_state(chance: random.Random, records: Records) -> tuple[Records, int]:
    at = _index(chance, records, topics.CHANNEL_STATE.name)
    return _with(records, at, value=None), records[at].partition


def stray_state(chance: random.Random, records: Records) -> tuple[Records, int]:
    at = _index(chance, records, topics.CHANNEL_STATE.name)
    key = f"stray-{chance.randrange(10**6)}".encode()
    end = max(one.offset for one in records if one.topic == records[at].topic) + 1
    return [*records, replace(records[at], key=key, offset=end)], records[at].partition


def add_event(chance: random.Random, _: Records) -> tuple[Records, int]:
    """By a plain producer: well chained, and counted by no checkpoint."""
    log = made_up_log(random.Random(chance.random()))
    state = [record for record in log.state_records() if record.topic == topics.CHANNEL_STATE.name]
    channel = chance.choice(CHANNELS)
    log.now += 1
    before = log.state(channel).channel
    assert before is not None
    log.send(channel, ToggleSms(enabled=not before.sms_enabled))
    return [*log.records, *state], partition_of(channel, PARTITIONS)


def _with(records: Records, at: int, **changes: object) -> Records:
    return [*records[:at], replace(records[at], **changes), *records[at + 1 :]]  # type: ignore[arg-type]


KINDS: tuple[Callable[[random.Random, Records], tuple[Records, int]], ...] = (
    *(flip_event, drop_event, swap_events, repeat_event, change_key, add_event),
    *(flip_state, drop_state, tombstone_state, stray_state),
)


def _is_excluded(before: Records, after: Records) -> bool:
    """Whether the manual says that it is not looked at: the checkpoint of a partition that never had an event, and of
    other checkpoints all fields but the count of events."""
    gone = [one for one in before if one not in after]
    new = [one for one in after if one not in before]
    if len(gone) != 1 or gone[0].key != b"~checkpoint" or len(new) > 1:
        return False
    if all(one.value is None for one in new):
        return b'"partitionsequence": 0' in (gone[0].value or b"")
    return b'"partitionsequence":' in (new[0].value or b"")


async def damage_and_verify(seed: int, directory: Path) -> tuple[str, str]:
    """(kind, result) of one damage: ``named``, ``not looked at``, ``no change``, or ``NOT FOUND`` with its seed."""
    chance = random.Random(seed)
    log = made_up_log(chance)
    records = log.records + log.state_records()
    kind = chance.choice(KINDS)
    damaged, partition = kind(chance, records)
    if sorted(damaged, key=_place) == sorted(records, key=_place):
        return kind.__name__, "no change"
    path = directory / f"{seed}.jsonl"
    assert (await _verify(path, records)).findings == [], f"a false alarm (seed {seed})"
    report = await _verify(path, damaged)
    if any(finding.position.partition == partition for finding in report.findings):
        return kind.__name__, "named"
    return kind.__name__, "not looked at" if _is_excluded(records, damaged) else f"NOT FOUND (seed {seed})"


async def _verify(path: Path, records: Records) -> Report:
    copy = copy_of(path, records)
    copy.partitions = PARTITIONS  # read as the broker's log is, not as a copy that is older than its events
    return await verify(copy)


def _place(record: CopiedRecord) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset
