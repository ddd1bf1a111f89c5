"""The check of one partition's events, one after the other: every record, every chain, every count, every fold."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from aiokafka import TopicPartition

from contracts.channel import ChannelRegistered
from contracts.envelope import GENESIS
from services.audit.log.homes import Homes
from services.audit.log.recorded_event import RecordedEvent, UnreadableEvent, fold, parse_event
from services.audit.log.source import LogPosition, LogRecord, position_of
from services.audit.timeline.audit_log import audit_entry
from services.audit.verification.anchor import PartitionAnchor, RunningDigest
from services.audit.verification.channels import Channels
from services.audit.verification.finding import DAMAGED, FINDINGS_LIMIT, ChainHead, Finding, numbered
from services.audit.verification.read_model_snapshot import ReadModelSnapshot
from services.audit.verification.state_records import StateDifference
from services.domain.state import ImpossibleHistory

_RECENT_EVENTS = 1_000


class PartitionCheck:
    """Checks the events of one partition in order, and collects the findings."""

    def __init__(
        self,
        source: TopicPartition,
        homes: Homes,
        channels: Channels,
        anchored: PartitionAnchor | None = None,
        read_models: ReadModelSnapshot | None = None,
    ) -> None:
        self.source, self._homes = source, homes
        self.chains, self.folds, self.unfolded = channels.chains, channels.folds, channels.unfolded
        self.findings: list[Finding] = []
        self.events = 0
        self.last: LogPosition | None = None
        self.partitionsequence = 0
        self.running = RunningDigest()
        self._anchored, self._read_models = anchored, read_models
        self._catalogue_due = read_models is not None
        self._sequences_due = set() if read_models is None else set(read_models.read_to(source.partition))
        self._recent: deque[tuple[int, LogPosition, str]] = deque(maxlen=_RECENT_EVENTS)

    def process(self, record: LogRecord) -> RecordedEvent | None:
        """The event, folded; None where it cannot be read."""
        position = position_of(record)
        if self._read_models is not None and position.offset >= self._read_models.catalogue.read_to.get(
            position.partition, 0
        ):
            self._compare_catalogue(self._read_models)
        if self._read_models is not None:
            self._compare_sequences(self._read_models, position.offset)
            self._read_models.history.process(position)
        self.last = position
        try:
            event = parse_event(record)
        except UnreadableEvent as error:
            self._find(position, f"the record is no event that can be read: {error}")
            # Whatever it was, it had the next number: what follows is judged on its own.
            self.partitionsequence += 1
            self._anchor(record, sha256(record.value or b"").hexdigest())
            return None
        self.events += 1
        self._count(event)
        self._anchor(record, event.digest)
        self._recent.append((self.partitionsequence, position, event.envelope.subject))
        self._check_placement(event, record.key)
        self._compare_unread(event)
        if self._chained(event):
            self._fold(event)
        return event

    def lives_here(self, channel: str) -> bool:
        """Whether no other partition's check judges the channel at the end."""
        return self._homes.lives_on(channel, self.source.partition)

    def _find(self, position: LogPosition, what: str, channel: str | None = None) -> None:
        if len(self.findings) < FINDINGS_LIMIT:
            self.findings.append(Finding(position, what, channel))

    def _count(self, event: RecordedEvent) -> None:
        expected, is_ = self.partitionsequence + 1, event.envelope.partitionsequence
        if is_ != expected:
            missing = f"; {numbered('event', expected, is_ - 1)} missing before it" if is_ > expected else ""
            self._find(event.position, f"its partitionsequence is {is_} where {expected} follows{missing}")
        self.partitionsequence = is_

    def _anchor(self, record: LogRecord, digest: str) -> None:
        self.running.add(digest)
        mark = None if self._anchored is None else self._anchored.digest_at(self.running.count)
        if mark is not None and mark != self.running.hexdigest() and self._anchored is not None:
            first = self._anchored.mark_before(self.running.count) + 1
            position = position_of(record)
            which = (
                "it is not the event that was anchored"
                if first == self.running.count
                else f"one of the partition's events {first} to {self.running.count} is not the one that was anchored"
            )
            self._find(
                position, f"{which}: the history was rewritten and chained anew, or events were put in or taken out"
            )
            self._anchored = None

    def _check_placement(self, event: RecordedEvent, key: bytes | None) -> None:
        envelope = event.envelope
        if key != envelope.subject.encode():
            self._find(event.position, "its key is not the channel that the event names", envelope.subject)
        may_move = self._homes.growth.growths or envelope.subject not in self.chains
        if may_move and not self._homes.may_be_at(envelope.subject, self.source, event.position.offset):
            self._find(event.position, "the channel does not live on this partition", envelope.subject)
        body: Any = event.body
        if body is None:
            return
        resource: str = body.resource
        if resource != envelope.resource:
            self._find(event.position, f"its resource is not {resource!r}", envelope.subject)

    def _chained(self, event: RecordedEvent) -> bool:
        """Checks the event against the one before it; whether the channel can still be folded."""
        envelope, channel = event.envelope, event.envelope.subject
        before = self.chains.get(channel)
        sequence, digest = (0, GENESIS) if before is None else (before.sequence, before.digest)
        follows = envelope.sequence == sequence + 1
        doubted = None
        if not follows:
            missing = numbered("version", sequence + 1, envelope.sequence - 1)
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
        self.chains[channel] = ChainHead(
            envelope.accountid, envelope.sequence, event.digest, event.time, event.position, doubted
        )
        if not follows:
            self.unfolded.add(channel)
        return channel not in self.unfolded

    def _against(self, event: RecordedEvent, before: ChainHead, *, intact: bool) -> None:
        channel = event.envelope.subject
        if before.doubted is not None:
            self._name_changed_event(channel, before, intact=intact)
        if event.envelope.accountid != before.account:
            self._find(event.position, f"it is of account {event.envelope.accountid!r}, its channel is not", channel)
        if event.time < before.time:
            self._find(event.position, "its time is before that of the channel's event before it", channel)

    def _name_changed_event(self, channel: str, chain: ChainHead, *, intact: bool) -> None:
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

    def _fold(self, event: RecordedEvent) -> None:
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
        except ImpossibleHistory as error:
            self._find(event.position, f"it cannot have happened: {error}", channel)
            self.unfolded.add(channel)
            return
        self.folds.put(channel, state)
        if self._read_models is not None:
            self._read_models.history.expect(audit_entry(event, before, state))
            if self._read_models.settings.differs(channel, state):
                self._find(event.position, "the read model shows other settings in this version", channel)

    def _compare_catalogue(self, read_models: ReadModelSnapshot) -> None:
        """Once, when as many events are folded as the catalogue has read."""
        if not self._catalogue_due:
            return
        self._catalogue_due = False
        for channel, state in self.folds.items():
            if (
                self.lives_here(channel)
                and channel not in self.unfolded
                and read_models.catalogue.differs(channel, state)
            ):
                position = self.chains[channel].position
                self._find(position, "after it, the intent catalogue shows other intents of the channel", channel)

    def _compare_sequences(self, read_models: ReadModelSnapshot, offset: int | None) -> None:
        """Once per model, when as many events are processed as it has read; with no ``offset``, all that are left."""
        if not self._sequences_due:
            return
        read_to = read_models.read_to(self.source.partition)
        for model in sorted(self._sequences_due):
            if offset is not None and offset < read_to[model]:
                continue
            self._sequences_due.discard(model)
            stored = read_models.sequences[model].get(self.source.partition)
            if stored is not None and stored != self.partitionsequence:
                position = self.last or LogPosition(self.source.topic, self.source.partition, 0)
                what = f"the checkpoint of the {model} counts {stored} events, the log {self.partitionsequence}"
                self._find(position, f"{what} up to here")

    def _compare_unread(self, event: RecordedEvent) -> None:
        """Finds what a read model shows of an event that its checkpoint says it has not read."""
        if self._read_models is None:
            return
        channel = event.envelope.subject
        for model in self._read_models.shows_unread(channel, event.envelope.sequence, event.position):
            self._find(event.position, f"the {model} shows it, but its checkpoint is before it", channel)

    async def compare_history(self, *, at_end: bool = False) -> None:
        """Compares the events processed since the last call with the history."""
        if self._read_models is not None:
            for finding in await self._read_models.history.differing(self.source.partition, at_end=at_end):
                self._find(*finding)

    async def compare_ends(self, end: int) -> None:
        """Compares what only the end shows; ``end`` is the first offset that was not read."""
        await self.compare_history(at_end=True)
        if self._read_models is None:
            return
        self._compare_sequences(self._read_models, None)
        for model, read_to in self._read_models.read_to(self.source.partition).items():
            if read_to > end:
                position = LogPosition(self.source.topic, self.source.partition, end)
                self._find(position, f"the {model} read model has read up to offset {read_to}, and the log ends here")

    def damaged(self, position: LogPosition) -> None:
        self._find(position, DAMAGED)

    def ends_unreadable(self, position: LogPosition) -> None:
        """Records that nothing after the position can be read; its absence is no further finding."""
        self._find(position, "nothing from here on can be read: the bytes are no records any more")
        self._anchored = self._read_models = None

    def end(self, heads: Mapping[str, str]) -> None:
        """Checks what only the end shows; ``heads`` are the hashes that `channel-state` has of last events."""
        if self._read_models is not None:
            self._compare_catalogue(self._read_models)
        for channel, chain in self.chains.items():
            if not self.lives_here(channel):
                continue
            if chain.doubted is not None:
                self._name_changed_event(channel, chain, intact=heads.get(channel, chain.digest) == chain.digest)
            if self._read_models is not None:
                at = chain.position
                problem = self._read_models.settings.version_problem(channel, chain.sequence, at.partition, at.offset)
                if problem is not None:
                    self._find(chain.position, problem, channel)
        anchored = self._anchored
        if anchored is not None and anchored.count > self.running.count:
            end = self.last or LogPosition(self.source.topic, self.source.partition, 0)
            self._find(
                end,
                f"the log ends here with {self.running.count} events, but {anchored.count} were anchored, "
                f"the last at offset {anchored.offset}: the later ones were taken out",
            )

    def uncounted(self, counted: int) -> None:
        """Records the events after the last one that `channel-state` counts."""
        after = [(position, channel) for sequence, position, channel in self._recent if sequence > counted]
        if after:
            position, channel = after[0]
            more = (
                f", nor {numbered('event', counted + 2, self.partitionsequence)[:-3].rstrip()}"
                if len(after) > 1
                else ""
            )
            what = f"channel-state does not count it{more}, though it was read later: no decider appended it"
            self._find(position, what, channel)

    def at(self, difference: StateDifference) -> Finding:
        """Where events and state part: at the channel's last event, or at the cut where the two were compared."""
        chain = self.chains.get(difference.channel) if difference.at_its_end else None
        cut = self.last or LogPosition(self.source.topic, self.source.partition, 0)
        return Finding(cut if chain is None else chain.position, difference.what, difference.channel)
