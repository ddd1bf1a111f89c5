"""Checks the log: every record, every chain, every count, and the state and anchor that it must lead to.

A partition is read once, in memory that grows with its channels and not with its events. Findings name the record.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from contracts import topics
from services.audit.log.errors import DamagedLog, Unclear
from services.audit.log.homes import Homes
from services.audit.log.source import Log, LogPosition, OffsetRange, Progress, homes_of, read_until
from services.audit.verification.anchor import Anchor, PartitionAnchor
from services.audit.verification.channels import Channels
from services.audit.verification.finding import DAMAGED, Finding
from services.audit.verification.partition_check import PartitionCheck
from services.audit.verification.read_model_snapshot import ReadModelSnapshot
from services.audit.verification.state_records import StateRecords, compare, read_on_until, read_state


@dataclass(slots=True)
class Report:
    """What was checked, and every finding, the first bad record first."""

    events: int = 0
    channels: int = 0
    read_to: list[LogPosition] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    compared_state: int = 0
    compared_settings: int = 0
    compared_catalogue: int = 0
    compared_history: int = 0
    anchored: int = 0
    anchors: dict[int, PartitionAnchor] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        return not self.findings

    def add(self, other: Report) -> None:
        """Takes over what was checked of other partitions."""
        self.events += other.events
        self.channels += other.channels
        self.read_to += other.read_to
        self.findings += other.findings
        self.compared_state += other.compared_state
        self.anchored += other.anchored
        self.anchors |= other.anchors

    def as_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "sound": self.sound,
            "events": self.events,
            "channels": self.channels,
            "compared_with_channel_state": self.compared_state,
            "read_to": [str(position) for position in self.read_to],
            "findings": [
                {"position": str(finding.position), "channel": finding.channel, "what": finding.what}
                for finding in self.findings
            ],
        }


async def verify(
    log: Log,
    anchor: Anchor | None = None,
    progress: Progress = lambda _: None,
    *,
    partitions: Sequence[int] | None = None,
    read_models: ReadModelSnapshot | None = None,
) -> Report:
    """Checks the events topic, or the partitions given of it; against `channel-state` where the log holds it.

    Raises `Unclear` where there is no such partition.
    """
    report = Report()
    # The state first: its cut then lies within the events, which are read to an end taken later.
    live = await log.offset_ranges(topics.EVENTS.name)
    states = await log.offset_ranges(topics.CHANNEL_STATE.name)
    for partition in anchor.partitions if anchor is not None else ():
        live.setdefault(TopicPartition(topics.EVENTS.name, partition), OffsetRange(0, 0))
    for state_source in states:  # a partition without events may have records of state
        live.setdefault(TopicPartition(topics.EVENTS.name, state_source.partition), OffsetRange(0, 0))
    in_log: set[str] = set()
    homes, channels = homes_of(log), Channels()
    for source in _sources(log, homes, live, partitions):
        if homes.with_ancestors(source) == [source]:
            channels = Channels()
        state_source = TopicPartition(topics.CHANNEL_STATE.name, source.partition)
        state = None
        try:
            if state_source in states:
                state = await read_state(log, state_source, states[state_source])
        except DamagedLog as damage:
            report.findings.append(Finding(damage.position, DAMAGED))
        if state is not None and state.unreadable is not None:
            report.findings.append(Finding(state.unreadable, "the checkpoint of channel-state cannot be read"))
            state = None
        anchored = None if anchor is None else anchor.partitions.get(source.partition)
        check = PartitionCheck(source, homes, channels, anchored, read_models)
        await _check_partition(log, check, state, report, progress)
        report.anchored += anchored is not None
        in_log |= check.chains.keys()
    if read_models is not None:
        report.compared_settings = len(read_models.settings.compared)
        report.compared_catalogue, report.compared_history = (
            read_models.catalogue.compared,
            read_models.history.compared,
        )
        if partitions is None:
            nowhere = LogPosition(topics.EVENTS.name, -1, -1)
            report.findings += [
                Finding(nowhere, f"{which} shows it, but the log has no event of it", channel)
                for channel, which in sorted(read_models.unknown_channels(in_log).items())
            ]
            report.findings += [
                Finding(*stray) for stray in await read_models.stray_rows({source.partition for source in live})
            ]
    report.findings.sort(key=lambda finding: finding.position)
    return report


def _sources(
    log: Log, homes: Homes, live: Collection[TopicPartition], partitions: Sequence[int] | None
) -> Iterator[TopicPartition]:
    """The partitions to check, each after those where its channels lived before, which are checked with it.

    Raises `Unclear`.
    """
    if log.growth.unfinished is not None:
        raise Unclear("The partitions are growing just now; verify when `switchboard topics grow` is done.")
    wanted = live if partitions is None else [TopicPartition(topics.EVENTS.name, number) for number in partitions]
    for source in wanted:
        if source not in live:
            raise Unclear(f"The log has no partition {source.partition}.")
    with_ancestors = {one for source in wanted for one in homes.with_ancestors(source)}
    return itertools.chain(*homes.families(with_ancestors))


async def _check_partition(
    log: Log, check: PartitionCheck, state: StateRecords | None, report: Report, progress: Progress
) -> None:
    """Reads one partition through the check, compares it with its state, and adds it all to the report."""
    cut = 0 if state is None else state.checkpoint.partitionsequence
    differences: list[Finding] | None = None if cut else []
    if state is not None and state.has_checkpoint and not cut:
        differences = [check.at(one) for one in compare(check.folds, state, check.unfolded, check.lives_here)]
    at = 0
    try:
        readings = read_until(log, check.source, lambda: check.partitionsequence >= cut, progress, check.damaged)
        async for batch, end in readings:
            at = end
            for record in batch:
                check.process(record)
                if differences is None and state is not None and check.partitionsequence == cut:
                    differences = [
                        check.at(one) for one in compare(check.folds, state, check.unfolded, check.lives_here)
                    ]
                    report.compared_state += sum(map(check.lives_here, check.chains))
            await check.compare_history()
    except DamagedLog as damage:
        check.ends_unreadable(damage.position)
        differences = differences or []
    await check.compare_ends(at)
    check.end({} if state is None else state.heads())
    if state is not None:
        await _check_end(log, check, state)
    last = check.last or LogPosition(check.source.topic, check.source.partition, 0)
    check.findings += differences or []
    if differences is None and check.partitionsequence < cut:
        what = (
            f"channel-state counts {cut} events of this partition, but the log has {check.partitionsequence}: "
            "the later ones were taken out"
        )
        check.findings.append(Finding(last, what))
    report.events += check.events
    report.channels += sum(map(check.lives_here, check.chains))
    report.findings += check.findings
    report.read_to.append(LogPosition(check.source.topic, check.source.partition, at))
    report.anchors[check.source.partition] = check.running.anchor(-1 if check.last is None else check.last.offset)


async def _check_end(log: Log, check: PartitionCheck, state: StateRecords) -> None:
    """Holds the events after the checkpoint against a newer one, which is read after them."""
    source = TopicPartition(topics.CHANNEL_STATE.name, check.source.partition)
    counted = await read_on_until(log, source, state, check.partitionsequence)
    if not state.has_checkpoint and state.unreadable is None and (state.records or not counted):
        what = "channel-state has no checkpoint: it was deleted, and what the records are of cannot be told"
        check.findings.append(Finding(LogPosition(source.topic, source.partition, state.read_to), what))
    elif not counted:
        check.uncounted(state.checkpoint.partitionsequence)
