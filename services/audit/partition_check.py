"""The check of one partition's events, one after the other: every record, every chain, every count, every fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from contracts.channel import ChannelRegistered
from contracts.envelope import GENESIS
from contracts.partitioner import partition_of
from services.audit.anchor import PartitionAnchor, RunningDigest
from services.audit.history import Folds, Happened, NotAnEvent, fold, happened
from services.audit.log import LogRecord, Position, Source, position_of
from services.audit.read_models import ReadModels
from services.audit.state_records import Difference
from services.audit.trail import entry_of
from services.domain.resources import resource_of_event

_RESOURCES_LIMIT = 10_000
DAMAGED = "the checksum of the records from here on is wrong: they are not as the broker wrote them"
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
        shown: ReadModels | None = None,
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
        self._catalogue_due = shown is not None
        self.chains: dict[str, _Chain] = {}
        self._resources: dict[tuple[Any, ...], str] = {}

    def take(self, record: LogRecord) -> Happened | None:
        """The event, folded; None where it cannot be read."""
        here = position_of(record)
        if self._shown is not None and here.offset >= self._shown.catalogue.read_to.get(here.partition, 0):
            self._compare_catalogue(self._shown)
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
        before = state
        try:
            state = fold(before, event)
        except LookupError as error:
            self._find(event.position, f"it cannot have happened: {error}", channel)
            self.unfolded.add(channel)
            return
        self.folds.put(channel, state)
        if self._shown is not None:
            self._shown.history.expect(entry_of(event, before, state))
            if self._shown.settings.differs(channel, state):
                self._find(event.position, "the read model shows other settings in this version", channel)

    def _compare_catalogue(self, shown: ReadModels) -> None:
        """Once, when as many events are folded as the catalogue has read."""
        if not self._catalogue_due:
            return
        self._catalogue_due = False
        for channel, state in self.folds.items():
            if channel not in self.unfolded and shown.catalogue.differs(channel, state):
                position = self.chains[channel].position
                self._find(position, "after it, the intent catalogue shows other intents of the channel", channel)

    async def compare_history(self) -> None:
        """Holds the events taken since the last time against the history."""
        if self._shown is not None:
            for entry, what in await self._shown.history.differing():
                self._find(entry.position, what, entry.channel)

    def damaged(self, position: Position) -> None:
        self._find(position, DAMAGED)

    def ends_unreadable(self, position: Position) -> None:
        """What is missing behind it is not missed once more."""
        self._find(position, "nothing from here on can be read: the bytes are no records any more")
        self._anchored = self._shown = None

    def end(self, heads: Mapping[str, str]) -> None:
        """Settles what only the end can tell; ``heads`` are the hashes that `channel-state` has of last events."""
        if self._shown is not None:
            self._compare_catalogue(self._shown)
        for channel, chain in self.chains.items():
            if chain.doubted is not None:
                self._settle(channel, chain, intact=heads.get(channel, chain.digest) == chain.digest)
            if self._shown is not None:
                offset = chain.position.offset
                amiss = self._shown.settings.amiss(channel, chain.sequence, self.source.partition, offset)
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
