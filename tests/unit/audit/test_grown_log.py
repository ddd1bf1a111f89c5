"""The audits of a log whose partitions grew: a channel's events are on several, and its chain goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from contracts import topics
from contracts.partitioner import partition_of
from contracts.sms import ToggleSms
from services.audit.log.copied_log import CopiedLog, CopiedRecord
from services.audit.timeline.audit_log import AuditFilter, ranges_to_read, read_audit_log
from services.audit.timeline.settings_at import channel_at, channels_at, parse_moment
from services.audit.verification.replay import replay
from services.audit.verification.verify import verify
from tests.audit import MadeUpLog, copy_of
from tests.unit.audit.histories import REGISTER

CHANNELS = tuple(f"channel-{number}" for number in range(12))
LATE = 8
"""After a second growth, from 4 partitions to 8."""


@pytest.fixture
def log() -> MadeUpLog:
    """Every channel has versions 1 and 2 before it grew, 3 between the growths, and the even ones 4 after both."""
    made = MadeUpLog(partitions=2)
    enabled = False

    def each(channels: tuple[str, ...], command: object = None) -> None:
        for channel in channels:
            made.now += 1
            assert made.send(channel, command or ToggleSms(enabled=enabled))  # type: ignore[arg-type]

    each(CHANNELS, REGISTER)
    for grows_to, channels in ((4, CHANNELS), (LATE, CHANNELS), (None, CHANNELS[::2])):
        enabled = not enabled
        each(channels)
        if grows_to is not None:
            made.grow(grows_to)
    return made


def on_broker(path: Path, records: list[CopiedRecord]) -> CopiedLog:
    """Read as the broker's log is, whose number of partitions is known."""
    copy = copy_of(path / "log.jsonl", records)
    copy.partitions = LATE
    return copy


async def test_it_is_sound_and_every_channel_is_held_against_its_state_once(log: MadeUpLog, tmp_path: Path) -> None:
    copy = on_broker(tmp_path, log.records + log.state_records())
    report = await verify(copy)
    assert report.findings == []
    assert (report.events, report.channels, report.compared_state) == (42, 12, 12)
    replayed = await replay(copy)
    assert (replayed.differences, replayed.channels, replayed.compared) == ([], 12, 12)


async def test_a_partition_is_verified_with_those_that_its_channels_come_from(log: MadeUpLog, tmp_path: Path) -> None:
    copy = on_broker(tmp_path, log.records + log.state_records())
    report = await verify(copy, partitions=[7])
    assert report.findings == []
    assert [end.partition for end in report.read_to] == [1, 3, 7]


async def test_an_event_on_the_partition_that_its_channel_has_left_is_found(log: MadeUpLog, tmp_path: Path) -> None:
    channel = next(one for one in CHANNELS[::2] if partition_of(one, 4) != partition_of(one, LATE))
    last = max(index for index, record in enumerate(log.records) if record.key == channel.encode())
    parent = partition_of(channel, 4)
    end = 2 + max(one.offset for one in log.records if (one.topic, one.partition) == (topics.EVENTS.name, parent))
    log.records[last] = replace(log.records[last], partition=parent, offset=end)
    report = await verify(on_broker(tmp_path, log.records))
    assert "the channel does not live on this partition" in {
        finding.what for finding in report.findings if finding.channel == channel
    }


async def test_settings_at_each_version(log: MadeUpLog, tmp_path: Path) -> None:
    copy = on_broker(tmp_path, log.records)
    moments = [parse_moment(str(version)) for version in (2, 3)]
    last = [parse_moment("now")]
    several = {answers[0].channel: answers for answers in await channels_at(copy, last, log.now)}
    for channel in CHANNELS:
        at_two, at_three = await channel_at(copy, channel, moments, log.now)
        assert [at.settings and at.settings.sms.enabled for at in (at_two, at_three)] == [True, False]
        [now] = several[channel]
        assert now.settings is not None
        assert now.settings.version == (4 if channel in CHANNELS[::2] else 3)


async def test_the_audit_log_tells_a_channels_events_in_order_whatever_the_clocks_say(
    log: MadeUpLog, tmp_path: Path
) -> None:
    early = [replace(one, timestamp=0) if one.partition >= 2 else one for one in log.records]
    copy = on_broker(tmp_path, early)
    for channel in (*CHANNELS, None):
        asked = AuditFilter(channel=channel)
        found: dict[str, list[int]] = {}
        async for entry in read_audit_log(copy, asked, await ranges_to_read(copy, asked)):
            found.setdefault(entry.channel, []).append(entry.version or 0)
        wanted = CHANNELS if channel is None else (channel,)
        assert found == {one: list(range(1, 5 if one in CHANNELS[::2] else 4)) for one in wanted}
