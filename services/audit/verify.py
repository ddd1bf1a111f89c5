"""Checks the log: every record, every chain, every count, and the state and anchor that it must lead to.

A partition is read once, in memory that grows with its channels and not with its events. Findings name the record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from contracts import topics
from contracts.channel import ChannelRegistered
from contracts.envelope import GENESIS
from contracts.partitioner import partition_of
from services.audit.anchor import Anchor, PartitionAnchor, RunningDigest
from services.audit.history import Folds, Happened, NotAnEvent, fold, happened
from services.audit.log import Log, LogRecord, Position, Progress, Source, Span, position_of
from services.audit.read_model import ReadModel
from services.audit.state_records import Difference, StateRecords, compare, read_state
from services.domain.resources import resource_of_event

_RESOURCES_LIMIT = 10_000
_WAITS_S = (0.2, 0.5, 1.0, 3.0)
FINDINGS_LIMIT = 100
"""So many findings of a partition are kept: what follows a broken record is often broken because of it."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that is wrong at a record, in a clause."""

    position: Position
    what: str
    channel: str | None = None

    def __str__(self) -> str:
        about = "" if self.channel is None else f" (channel {self.channel!r})"
        return f"{self.position}{about}: {self.what}"


@dataclass(slots=True)
class Report:
    """What was checked, and every finding, the first bad record first."""

    events: int = 0
    channels: int = 0
    read_to: list[Position] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    compared_state: int = 0
    compared_settings: int = 0
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


@dataclass(slots=True)
class _Chain:
    """Where a channel's chain stands: its last event."""

    account: str
    sequence: int
    digest: str
    time: int
    position: Position
    doubted: Position | None = None
    """The event before the last, if the last one's ``previoushash`` is not its hash: one of the two was changed."""


class PartitionCheck:
    """Takes the events of one partition in order, and gathers what is wrong with them."""

    def __init__(
        self,
        source: Source,
        partitions: int,
        anchored: PartitionAnchor | None = None,
        shown: ReadModel | None = None,
    ) -> None:
        """``partitions`` is 0 where their number is not known."""
        self.source, self.partitions = source, partitions
        self.folds = Folds()
        self.findings: list[Finding] = []
        self.unfolded: set[str] = set()
        self.events = 0
        self.last: Position | None = None
        self.partitionsequence = 0
        self.running = RunningDigest()
        self._anchored, self._shown = anchored, shown
        self.chains: dict[str, _Chain] = {}
        self._resources: dict[tuple[Any, ...], str] = {}

    def take(self, record: LogRecord) -> Happened | None:
        """The event, folded; None where it cannot be read."""
        here = position_of(record)
        self.last = here
        try:
            event = happened(record)
        except NotAnEvent as error:
            self._find(here, f"the record is no event that can be read: {error}")
            # Whatever it was, it had the next number: what follows is judged on its own.
            self.partitionsequence += 1
            self._anchor(record, sha256(record.value or b"").hexdigest())
            return None
        self.events += 1
        self._count(event)
        self._anchor(record, event.digest)
        self._place(event, record.key)
        if self._chained(event):
            self._fold(event)
        return event

    def _find(self, position: Position, what: str, channel: str | None = None) -> None:
        if len(self.findings) < FINDINGS_LIMIT:
            self.findings.append(Finding(position, what, channel))

    def _count(self, event: Happened) -> None:
        wanted, is_ = self.partitionsequence + 1, event.envelope.partitionsequence
        if is_ != wanted:
            missing = f"; {_numbers('event', wanted, is_ - 1)} missing before it" if is_ > wanted else ""
            self._find(event.position, f"its partitionsequence is {is_} where {wanted} follows{missing}")
        self.partitionsequence = is_

    def _anchor(self, record: LogRecord, digest: str) -> None:
        self.running.add(digest)
        mark = None if self._anchored is None else self._anchored.digest_at(self.running.count)
        if mark is not None and mark != self.running.hexdigest() and self._anchored is not None:
            first = self._anchored.mark_before(self.running.count) + 1
            here = position_of(record)
            which = (
                "it is not the event that was anchored"
                if first == self.running.count
                else f"one of the partition's events {first} to {self.running.count} is not the one that was anchored"
            )
            self._find(here, f"{which}: the history was rewritten and chained anew, or events were put in or taken out")
            self._anchored = None

    def _place(self, event: Happened, key: bytes | None) -> None:
        envelope = event.envelope
        if key != envelope.subject.encode():
            self._find(event.position, "its key is not the channel that the event names", envelope.subject)
        first = self.partitions and envelope.subject not in self.chains
        if first and partition_of(envelope.subject, self.partitions) != self.source.partition:
            self._find(event.position, "the channel does not live on this partition", envelope.subject)
        body: Any = event.body
        if body is None:
            return
        about = (envelope.type, envelope.data.get("system"), envelope.data.get("code"))
        resource = self._resources.get(about)
        if resource is None:
            resource = self._resources[about] = resource_of_event(body)
            if len(self._resources) > _RESOURCES_LIMIT:
                self._resources.clear()
        if resource != envelope.resource:
            self._find(event.position, f"its resource is not {resource!r}", envelope.subject)

    def _chained(self, event: Happened) -> bool:
        """Checks the event against the one before it; whether the channel can still be folded."""
        envelope, channel = event.envelope, event.envelope.subject
        before = self.chains.get(channel)
        sequence, digest = (0, GENESIS) if before is None else (before.sequence, before.digest)
        follows = envelope.sequence == sequence + 1
        doubted = None
        if not follows:
            missing = _numbers("version", sequence + 1, envelope.sequence - 1)
            clause = f"{missing} missing before it" if envelope.sequence > sequence else "it comes a second time"
            self._find(event.position, f"its sequence is {envelope.sequence} after {sequence}: {clause}", channel)
        elif envelope.previoushash != digest:
            if before is None:
                self._find(
                    event.position, "it is the channel's first event, but its previoushash is not zeros", channel
                )
            elif before.doubted is None:
                doubted = before.position
        if before is not None:
            self._against(event, before, intact=before.doubted is None or envelope.previoushash == digest)
        self.chains[channel] = _Chain(
            envelope.accountid, envelope.sequence, event.digest, event.time, event.position, doubted
        )
        if not follows:
            self.unfolded.add(channel)
        return channel not in self.unfolded

    def _against(self, event: Happened, before: _Chain, *, intact: bool) -> None:
        channel = event.envelope.subject
        if before.doubted is not None:
            self._settle(channel, before, intact=intact)
        if event.envelope.accountid != before.account:
            self._find(event.position, f"it is of account {event.envelope.accountid!r}, its channel is not", channel)
        if event.time < before.time:
            self._find(event.position, "its time is before that of the channel's event before it", channel)

    def _settle(self, channel: str, chain: _Chain, *, intact: bool) -> None:
        """Names which of two events was changed: the later one is intact if what follows it has its hash."""
        if chain.doubted is None:
            return
        if intact:
            self._find(
                chain.doubted,
                f"it was changed: its hash is not the previoushash of the event at {chain.position}",
                channel,
            )
        else:
            self._find(chain.position, "it was changed: neither its previoushash nor its own hash is right", channel)

    def _fold(self, event: Happened) -> None:
        channel = event.envelope.subject
        state = self.folds.get(channel)
        if isinstance(event.body, ChannelRegistered) != (state.channel is None):
            self._find(
                event.position, f"{event.envelope.type} cannot happen in version {event.envelope.sequence}", channel
            )
            self.unfolded.add(channel)
            return
        try:
            state = fold(state, event)
        except LookupError as error:
            self._find(event.position, f"it cannot have happened: {error}", channel)
            self.unfolded.add(channel)
            return
        self.folds.put(channel, state)
        if self._shown is not None and self._shown.differs(channel, state):
            self._find(event.position, "the read model shows other settings in this version", channel)

    def end(self, heads: Mapping[str, str]) -> None:
        """Settles what only the end can tell; ``heads`` are the hashes that `channel-state` has of last events."""
        for channel, chain in self.chains.items():
            if chain.doubted is not None:
                self._settle(channel, chain, intact=heads.get(channel, chain.digest) == chain.digest)
            if self._shown is not None:
                offset = chain.position.offset
                amiss = self._shown.amiss(channel, chain.sequence, self.source.partition, offset)
                if amiss is not None:
                    self._find(chain.position, amiss, channel)
        anchored = self._anchored
        if anchored is not None and anchored.count > self.running.count:
            end = self.last or Position(self.source.topic, self.source.partition, 0)
            self._find(
                end,
                f"the log ends here with {self.running.count} events, but {anchored.count} were anchored, "
                f"the last at offset {anchored.offset}: the later ones were taken out",
            )

    def at(self, difference: Difference) -> Finding:
        """Where events and state part: at the channel's last event, or at the cut where the two were compared."""
        chain = self.chains.get(difference.channel) if difference.at_its_end else None
        cut = self.last or Position(self.source.topic, self.source.partition, 0)
        return Finding(cut if chain is None else chain.position, difference.what, difference.channel)


def _numbers(what: str, first: int, last: int) -> str:
    return f"{what} {first} is" if first == last else f"{what}s {first} to {last} are"


async def verify(
    log: Log,
    anchor: Anchor | None = None,
    progress: Progress = lambda _: None,
    *,
    partitions: Sequence[int] | None = None,
    shown: ReadModel | None = None,
) -> Report:
    """Checks the events topic, or the partitions given of it; against `channel-state` where the log holds it."""
    report = Report()
    # The state first: its cut then lies within the events, which are read to an end taken later.
    live = await log.spans(topics.EVENTS.name)
    copied_state = log.partitions or await log.spans(topics.CHANNEL_STATE.name)
    states = await log.spans(topics.CHANNEL_STATE.name) if copied_state else {}
    for partition in anchor.partitions if anchor is not None else ():
        live.setdefault(Source(topics.EVENTS.name, partition), Span(0, 0))
    known: set[str] = set()
    for source in sorted(live):
        if partitions is not None and source.partition not in partitions:
            continue
        state_source = Source(topics.CHANNEL_STATE.name, source.partition)
        state = await read_state(log, state_source, states[state_source]) if state_source in states else None
        anchored = None if anchor is None else anchor.partitions.get(source.partition)
        check = PartitionCheck(source, log.partitions, anchored, shown)
        await _check_partition(log, check, state, report, progress)
        report.anchored += anchored is not None
        known |= check.chains.keys()
    if shown is not None:
        report.compared_settings = len(shown.compared)
        if partitions is None:
            nowhere = Position(topics.EVENTS.name, -1, -1)
            report.findings += [
                Finding(nowhere, "the read model shows it, but the log has no event of it", channel)
                for channel in shown.strangers(known)
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
    for wait in (0.0, *_WAITS_S):
        # A transaction's markers reach its partitions one by one: the state's cut may be visible before its events.
        await asyncio.sleep(wait)
        span = (await log.spans(topics.EVENTS.name)).get(check.source, Span(0, 0))
        async for batch in log.read(check.source, Span(max(span.first, at), span.end), progress):
            for record in batch:
                check.take(record)
                if differences is None and state is not None and check.partitionsequence == cut:
                    differences = [check.at(one) for one in compare(check.folds, state, check.unfolded)]
                    report.compared_state += len(check.folds)
        at = span.end
        if check.partitionsequence >= cut or not log.partitions:
            break
    check.end({} if state is None else state.heads())
    here = check.last or Position(check.source.topic, check.source.partition, 0)
    check.findings += differences or []
    if differences is None:
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
