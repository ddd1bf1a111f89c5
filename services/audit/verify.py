"""Checks the log: every record, every chain, every count, and the state and anchor that it must lead to.

A partition is read once, in memory that grows with its channels and not with its events. Findings name the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts import topics
from services.audit.anchor import Anchor, PartitionAnchor
from services.audit.log import DamagedLog, Log, Position, Progress, Source, Span, Unclear, read_on
from services.audit.partition_check import DAMAGED, Finding, PartitionCheck
from services.audit.read_models import ReadModels
from services.audit.state_records import StateRecords, compare, read_state


@dataclass(slots=True)
class Report:
    """What was checked, and every finding, the first bad record first."""

    events: int = 0
    channels: int = 0
    read_to: list[Position] = field(default_factory=list)
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

    def answer(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "sound": self.sound,
            "events": self.events,
            "channels": self.channels,
            "compared_with_channel_state": self.compared_state,
            "read_to": [position.cited() for position in self.read_to],
            "findings": [
                {"position": finding.position.cited(), "channel": finding.channel, "what": finding.what}
                for finding in self.findings
            ],
        }


async def verify(
    log: Log,
    anchor: Anchor | None = None,
    progress: Progress = lambda _: None,
    *,
    partitions: Sequence[int] | None = None,
    shown: ReadModels | None = None,
) -> Report:
    """Checks the events topic, or the partitions given of it; against `channel-state` where the log holds it.

    Raises `Unclear` where there is no such partition.
    """
    report = Report()
    # The state first: its cut then lies within the events, which are read to an end taken later.
    live = await log.spans(topics.EVENTS.name)
    states = await log.spans(topics.CHANNEL_STATE.name)
    for partition in anchor.partitions if anchor is not None else ():
        live.setdefault(Source(topics.EVENTS.name, partition), Span(0, 0))
    for number in partitions or ():
        if Source(topics.EVENTS.name, number) not in live:
            raise Unclear(f"The log has no partition {number}.")
    known: set[str] = set()
    for source in sorted(live):
        if partitions is not None and source.partition not in partitions:
            continue
        state_source = Source(topics.CHANNEL_STATE.name, source.partition)
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
        check = PartitionCheck(source, log.partitions, anchored, shown)
        await _check_partition(log, check, state, report, progress)
        report.anchored += anchored is not None
        known |= check.chains.keys()
    if shown is not None:
        report.compared_settings = len(shown.settings.compared)
        report.compared_catalogue, report.compared_history = shown.catalogue.compared, shown.history.compared
        if partitions is None:
            nowhere = Position(topics.EVENTS.name, -1, -1)
            report.findings += [
                Finding(nowhere, f"{which} shows it, but the log has no event of it", channel)
                for channel, which in sorted(shown.strangers(known).items())
            ]
    report.findings.sort(key=lambda finding: finding.position)
    return report


async def _check_partition(
    log: Log, check: PartitionCheck, state: StateRecords | None, report: Report, progress: Progress
) -> None:
    """Reads one partition through the check, compares it with its state, and adds it all to the report."""
    cut = 0 if state is None else state.checkpoint.partitionsequence
    differences: list[Finding] | None = None if cut else []
    at = 0
    try:
        readings = read_on(log, check.source, lambda: check.partitionsequence >= cut, progress, check.damaged)
        async for batch, end in readings:
            at = end
            for record in batch:
                check.take(record)
                if differences is None and state is not None and check.partitionsequence == cut:
                    differences = [check.at(one) for one in compare(check.folds, state, check.unfolded)]
                    report.compared_state += len(check.folds)
            await check.compare_history()
    except DamagedLog as damage:
        check.ends_unreadable(damage.position)
        differences = differences or []
    check.end({} if state is None else state.heads())
    here = check.last or Position(check.source.topic, check.source.partition, 0)
    check.findings += differences or []
    if differences is None and check.partitionsequence < cut:
        what = (
            f"channel-state counts {cut} events of this partition, but the log has {check.partitionsequence}: "
            "the later ones were taken out"
        )
        check.findings.append(Finding(here, what))
    report.events += check.events
    report.channels += len(check.chains)
    report.findings += check.findings
    report.read_to.append(Position(check.source.topic, check.source.partition, at))
    report.anchors[check.source.partition] = check.running.anchor(-1 if check.last is None else check.last.offset)
