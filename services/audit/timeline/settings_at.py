"""The settings as they were at a time, or in a version: folded from the log up to there, with the place it rests on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiokafka import TopicPartition

from contracts import topics
from contracts.message import parse_rfc3339, rfc3339, unix_milliseconds
from contracts.settings import ChannelSettings
from services.audit.log.errors import BrokenLog, NoSuchVersion, Unclear
from services.audit.log.recorded_event import RecordedEvent, UnreadableEvent, fold_unbroken, parse_event
from services.audit.log.source import Log, LogPosition, OffsetRange, Progress, homes_of, sources_of
from services.audit.timeline.channel_settings import channel_settings
from services.domain.state import ChannelState


@dataclass(frozen=True, slots=True)
class Moment:
    """A version of a channel, or an instant in Unix milliseconds, or, without either, the log's end.

    ``time`` is cut to the millisecond, as the times of events are; ``exact`` says whether nothing was cut off.
    """

    text: str
    version: int | None = None
    time: int | None = None
    exact: bool = True

    @property
    def excluded_end(self) -> int | None:
        """The first millisecond that begins at the instant or after it."""
        return None if self.time is None else self.time + (not self.exact)

    def is_before(self, event: RecordedEvent) -> bool:
        if self.version is not None:
            return event.envelope.sequence > self.version
        return self.time is not None and event.time > self.time


LATEST = Moment("now")
"""Not an instant: the clocks that stamp events may be ahead of ours."""


def parse_moment(text: str, parameter: str | None = None) -> Moment:
    """``7``, ``2026-11-22T08:00:00Z``, ``2026-11-22`` (its first instant in UTC) or ``now``. Raises `AuditError`, which
    names the parameter."""
    text = text.strip()
    if text == "now":
        return LATEST
    if text.isascii() and text.isdigit() and len(text) < 16:
        return Moment(text, version=int(text))
    try:
        if len(text) == len("2026-11-22"):
            return Moment(text, time=round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000))
        return Moment(text, time=unix_milliseconds(text), exact=parse_rfc3339(text).microsecond % 1000 == 0)
    except (ValueError, OverflowError):
        named = "" if parameter is None else f"{parameter!r} is wrong: "
        raise Unclear(
            f"{named}{text!r} is neither a version, like 7, nor a time, like 2026-11-22T08:00:00Z, 2026-11-22 or now."
        ) from None


@dataclass(frozen=True, slots=True)
class SettingsAt:
    """A channel's settings at a moment; None where it had none yet, and ``notes`` say why.

    ``position`` is of the last event that the answer rests on, ``read_to`` the end of the log that was looked at;
    ``clock`` (Unix milliseconds) decides which older signatures count as valid.
    """

    channel: str
    moment: Moment
    settings: ChannelSettings | None
    state: ChannelState
    position: LogPosition | None
    event: str | None
    time: int | None
    clock: int
    read_to: LogPosition
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As JSON: the settings, and what they rest on."""
        return {
            "at": self.moment.text,
            "channel": self.channel,
            "settings": None if self.settings is None else self.settings.model_dump(mode="json", by_alias=True),
            "rests_on": None
            if self.position is None or self.time is None
            else {"position": str(self.position), "event": self.event, "time": rfc3339(self.time)},
            "read_to": str(self.read_to),
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class ChannelFold:
    """Folds one channel's events and stops at each of the moments, in whatever order these are."""

    channel: str
    moments: Sequence[Moment]
    now: int
    state: ChannelState = field(default_factory=ChannelState)
    last: RecordedEvent | None = None
    first: RecordedEvent | None = None
    stopped: dict[int, SettingsAt] = field(default_factory=dict)
    read_to: LogPosition | None = None
    """The end of the partition that its last event is on."""

    def process(self, event: RecordedEvent, read_to: LogPosition) -> None:
        """Raises `AuditError` where the log cannot be folded."""
        for number, moment in enumerate(self.moments):
            if number not in self.stopped and moment.is_before(event):
                self.stopped[number] = self._answer(moment, event, read_to)
        self.first = self.first or event
        self.state = fold_unbroken(self.state, event)
        self.last, self.read_to = event, read_to

    @property
    def done(self) -> bool:
        return len(self.stopped) == len(self.moments)

    def answers(self, read_to: LogPosition) -> list[SettingsAt]:
        """An answer for each moment, in their order. Raises `AuditError` for a version that is yet to come."""
        return [
            self.stopped[number] if number in self.stopped else self._answer(moment, None, read_to)
            for number, moment in enumerate(self.moments)
        ]

    def _answer(self, moment: Moment, following: RecordedEvent | None, read_to: LogPosition) -> SettingsAt:
        last = self.last
        if moment.version is not None and following is None:
            version = 0 if last is None else last.envelope.sequence
            if moment.version > version:
                raise NoSuchVersion(
                    f"Channel {self.channel!r} is at version {version}; version {moment.version} is yet to come."
                )
        # A version is looked at as it was made; a time at that time, when a signature may have expired since.
        made = 0 if last is None else last.time
        clock = made if moment.version is not None else moment.time or max(self.now, made)
        return SettingsAt(
            channel=self.channel,
            moment=moment,
            settings=channel_settings(self.channel, self.state, clock),
            state=self.state,
            position=None if last is None else last.position,
            event=None if last is None else last.envelope.id,
            time=None if last is None else last.time,
            clock=clock,
            read_to=read_to,
            notes=tuple(self._notes(moment, following)),
        )

    def _notes(self, moment: Moment, following: RecordedEvent | None) -> list[str]:
        notes = []
        if moment.time is not None and moment.time > self.now:
            notes.append(f"{moment.text} lies in the future: these are the settings as of now, which may yet change.")
        if self.last is None and following is not None:
            notes.append(
                f"Channel {self.channel!r} did not exist yet: its first event is of "
                f"{following.envelope.time}, at {following.position}."
            )
        elif (
            self.last is not None
            and following is not None
            and following.envelope.causationid == self.last.envelope.causationid
        ):
            notes.append(
                f"Version {self.last.envelope.sequence} lies between two events of one command "
                f"({following.envelope.causationid}), which became visible together: nobody saw these settings."
            )
        return notes


async def channel_at(
    log: Log, channel: str, moments: Sequence[Moment], now: int, progress: Progress = lambda _: None
) -> list[SettingsAt]:
    """A channel's settings at each of the moments, from one reading. Raises `AuditError`."""
    folded = ChannelFold(channel, moments, now)
    end = None
    async with aclosing(channel_events(log, channel, progress)) as events:
        async for event, end in events:
            folded.process(event, end)
            if folded.done:
                break
    if end is None:
        raise NoSuchVersion(f"The log holds no event of channel {channel!r}; the platform registers channels.")
    return folded.answers(end)


async def channel_events(
    log: Log, channel: str, progress: Progress = lambda _: None
) -> AsyncGenerator[tuple[RecordedEvent, LogPosition], None]:
    """The channel's events, each with the end of the log that is being read. Raises `AuditError`."""
    ranges = await log.offset_ranges(topics.EVENTS.name)
    key = channel.encode()
    for source in sources_of(log, topics.EVENTS.name, channel) if log.partitions else sorted(ranges):
        end = LogPosition(source.topic, source.partition, ranges[source].end)
        async for batch in log.read(source, ranges[source], progress):
            for record in batch:
                if record.key == key:
                    yield read_event(record), end


async def channels_at(
    log: Log,
    moments: Sequence[Moment],
    now: int,
    *,
    account: str | None = None,
    provider: str | None = None,
    progress: Progress = lambda _: None,
) -> list[list[SettingsAt]]:
    """The same for each channel of an account, or of a provider's customers, by id.

    A provider's channels are those that name it at the last of the moments.
    """
    if any(moment.version is not None for moment in moments):
        raise Unclear("A version belongs to one channel; for several, give a time, or choose the channel.")
    found = []
    ranges = await log.offset_ranges(topics.EVENTS.name)
    for family in homes_of(log).families(ranges):
        folds: dict[bytes | None, ChannelFold] = {}
        for source in family:
            await _fold(folds, log, source, ranges[source], moments, now, account, progress)
        for folded in folds.values():
            if folded.read_to is None:
                continue
            answers = folded.answers(folded.read_to)
            registered = answers[-1].state.channel
            if provider is None or (registered is not None and registered.provider == provider):
                found.append(answers)
    return sorted(found, key=lambda answers: answers[0].channel)


async def _fold(
    folds: dict[bytes | None, ChannelFold],
    log: Log,
    source: TopicPartition,
    offsets: OffsetRange,
    moments: Sequence[Moment],
    now: int,
    account: str | None,
    progress: Progress,
) -> None:
    """Reads a partition on, after those where its channels lived before."""
    end = LogPosition(source.topic, source.partition, offsets.end)
    others: set[bytes | None] = set()
    async for batch in log.read(source, offsets, progress):
        for record in batch:
            if record.key in others:
                continue
            event = read_event(record)
            folded = folds.get(record.key)
            if folded is None:
                if account not in (None, event.envelope.accountid):
                    others.add(record.key)
                    continue
                folded = folds[record.key] = ChannelFold(event.envelope.subject, moments, now)
            if not folded.done:
                folded.process(event, end)


def read_event(record: Any) -> RecordedEvent:
    """The event; raises `AuditError`."""
    try:
        return parse_event(record)
    except UnreadableEvent as error:
        raise BrokenLog(
            f"{record.topic}/{record.partition}/{record.offset} is no event that can be read: {error}; "
            "`switchboard audit verify` names all that is wrong."
        ) from None
