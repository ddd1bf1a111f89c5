"""Folding the log to a cut. It calls nobody and changes nothing: it reads, folds, and says what it came to."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

from aiokafka import TopicPartition

from contracts import topics
from services.audit.log.recorded_event import FoldedChannels, fold_unbroken, open_systems
from services.audit.log.source import Log, LogPosition, LogRecord, Progress, homes_of, read_until
from services.audit.timeline.settings_at import read_event
from services.audit.verification.state_records import StateRecords, compare, read_on_until, read_state
from services.domain.state import ChannelState
from services.domain.state_codec import BUSINESS_SYSTEM, CHANNEL


@dataclass(slots=True)
class Replayed:
    """``digest`` is of the folded state, the same wherever and whenever the same cut is replayed.

    ``cuts`` are the last events folded. ``differences`` are sentences; ``compared`` says how many channels were held
    against `channel-state`, which has the log's end alone: at a cut before it there is nothing to compare with.
    """

    events: int = 0
    channels: int = 0
    digest: str = ""
    compared: int = 0
    differences: list[str] = field(default_factory=list)
    cuts: list[LogPosition] = field(default_factory=list)
    read_to: list[LogPosition] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "events": self.events,
            "channels": self.channels,
            "state_digest": self.digest,
            "compared_with_channel_state": self.compared,
            "differences": self.differences,
            "cuts": [str(cut) for cut in self.cuts],
            "read_to": [str(end) for end in self.read_to],
        }


async def replay(
    log: Log,
    until: int | None = None,
    progress: Progress = lambda _: None,
    each: Callable[[LogRecord], object] = lambda _: None,
) -> Replayed:
    """Folds every event up to and with the time ``until`` (Unix milliseconds; None: the end), partition by partition.

    ``each`` is told of every record folded. Raises `AuditError` where the log cannot be folded.
    """
    done = Replayed()
    states = await log.offset_ranges(topics.CHANNEL_STATE.name) if until is None else {}
    digests: list[tuple[str, bytes]] = []
    homes, folds = homes_of(log), FoldedChannels()
    for source in itertools.chain(*homes.families(await log.offset_ranges(topics.EVENTS.name))):
        if homes.with_ancestors(source) == [source]:
            folds = FoldedChannels()
        lives_here = partial(homes.lives_on, partition=source.partition)
        state_source = TopicPartition(topics.CHANNEL_STATE.name, source.partition)
        state = await read_state(log, state_source, states[state_source]) if state_source in states else None
        if state is not None and state.unreadable is not None:
            done.differences.append(f"the checkpoint of channel-state at {state.unreadable} cannot be read")
            state = None
        folding = _Folding(done, state, until, each, folds, lives_here)
        at = 0
        async for batch, end in read_until(log, source, folding.covers_state, progress):
            at = end
            for record in batch:
                folding.process(record)
        folding.end(source)
        if state is not None and state.records and not state.has_checkpoint:
            done.differences.append(f"channel-state has no checkpoint of partition {source.partition}")
        elif state is not None and not await read_on_until(log, state_source, state, folding.partitionsequence):
            done.differences.append(
                f"the log has {folding.partitionsequence} events of partition {source.partition}, but channel-state, "
                f"read after them, counts {state.checkpoint.partitionsequence}: no decider appended the later ones"
            )
        done.read_to.append(LogPosition(source.topic, source.partition, at))
        if folding.last is not None:
            done.cuts.append(folding.last)
        ended = [(channel, digest_of(folded)) for channel, folded in folds.items() if lives_here(channel)]
        done.channels += len(ended)
        digests += ended
    whole = sha256()
    for channel, digest in sorted(digests):
        whole.update(channel.encode() + b"\0" + digest)
    done.digest = whole.hexdigest()
    return done


@dataclass(slots=True)
class _Folding:
    """The folding of one partition."""

    done: Replayed
    state: StateRecords | None
    until: int | None
    each: Callable[[LogRecord], object]
    folds: FoldedChannels
    lives_here: Callable[[str], bool]
    last: LogPosition | None = None
    partitionsequence: int = 0

    def covers_state(self) -> bool:
        return self.state is None or self.partitionsequence >= self.state.checkpoint.partitionsequence

    def end(self, source: TopicPartition) -> None:
        if self.state is not None and not self.covers_state():
            self.done.differences.append(
                f"channel-state counts {self.state.checkpoint.partitionsequence} events of partition "
                f"{source.partition}, but the log has {self.partitionsequence}"
            )

    def process(self, record: LogRecord) -> None:
        event = read_event(record)
        if self.until is not None and event.time > self.until:
            return
        channel = event.envelope.subject
        self.folds.put(channel, fold_unbroken(self.folds.get(channel), event))
        self.done.events += 1
        self.last, self.partitionsequence = event.position, event.envelope.partitionsequence
        self.each(record)
        if self.state is not None and self.state.checkpoint.partitionsequence == event.envelope.partitionsequence:
            found = compare(self.folds, self.state, frozenset(), self.lives_here)
            self.done.differences += [f"{one.channel}: {one.what}" for one in found]
            self.done.compared += sum(map(self.lives_here, self.folds))


def digest_of(state: ChannelState) -> bytes:
    """The SHA-256 of a channel's state records."""
    digest = sha256(b"" if state.channel is None else CHANNEL.encode(state.channel))
    for name, record in open_systems(state).items():
        digest.update(b"\0" + name.encode() + b"\0" + BUSINESS_SYSTEM.encode(record))
    return digest.digest()
