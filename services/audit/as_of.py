"""The settings as they were at a time, or in a version: folded from the log up to there, with the place it rests on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from contracts import topics
from contracts.message import milliseconds_of, rfc3339
from contracts.settings import (
    BusinessSystemSettings,
    ChannelSettings,
    IntentSettings,
    OtpSchedulingSettings,
    SignatureSettings,
    SmsSettings,
)
from services.audit.history import Happened, NotAnEvent, fold, happened, systems_of
from services.audit.log import BrokenLog, Log, NoSuchVersion, Position, Progress, Source, Span, Unclear, home_of
from services.domain.state import BusinessSystem, ChannelState


@dataclass(frozen=True, slots=True)
class Moment:
    """A version of a channel, or an instant in Unix milliseconds, or, without either, the log's end."""

    text: str
    version: int | None = None
    time: int | None = None

    def is_before(self, event: Happened) -> bool:
        if self.version is not None:
            return event.envelope.sequence > self.version
        return self.time is not None and event.time > self.time


LATEST = Moment("now")
"""Not an instant: the clocks that stamp events may be ahead of ours."""


def moment(text: str) -> Moment:
    """``7``, ``2026-11-22T08:00:00Z``, ``2026-11-22`` (its first instant in UTC) or ``now``. Raises `AuditError`."""
    text = text.strip()
    if text == "now":
        return LATEST
    if text.isascii() and text.isdigit() and len(text) < 16:
        return Moment(text, version=int(text))
    try:
        if len(text) == len("2026-11-22"):
            return Moment(text, time=round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000))
        return Moment(text, time=milliseconds_of(text))
    except (ValueError, OverflowError):
        raise Unclear(
            f"{text!r} is neither a version, like 7, nor a time, like 2026-11-22T08:00:00Z, 2026-11-22 or now."
        ) from None


@dataclass(frozen=True, slots=True)
class Then:
    """A channel's settings at a moment; None where it had none yet, and ``notes`` say why.

    ``position`` is of the last event that the answer rests on, ``read_to`` the end of the log that was looked at;
    ``clock`` (Unix milliseconds) decides which older signatures count as valid.
    """

    channel: str
    moment: Moment
    settings: ChannelSettings | None
    state: ChannelState
    position: Position | None
    event: str | None
    time: int | None
    clock: int
    read_to: Position
    notes: tuple[str, ...] = ()

    def answer(self) -> dict[str, Any]:
        """As JSON: the settings, and what they rest on."""
        return {
            "at": self.moment.text,
            "channel": self.channel,
            "settings": None if self.settings is None else self.settings.model_dump(mode="json", by_alias=True),
            "rests_on": None
            if self.position is None or self.time is None
            else self.position.cited() | {"event": self.event, "time": rfc3339(self.time)},
            "read_to": self.read_to.cited(),
            "notes": list(self.notes),
        }


def settings_of(channel: str, state: ChannelState, now: int) -> ChannelSettings | None:
    """The settings as the API shows them; ``now`` (Unix milliseconds) decides which older signatures are valid."""
    known = state.channel
    if known is None:
        return None
    form = known.otp_scheduling
    return ChannelSettings(
        channel=channel,
        account=known.account,
        channel_type=known.channel_type,
        name=known.name,
        provider=known.provider,
        retired=known.retired,
        version=known.version,
        business_systems=tuple(_system(name, record, now) for name, record in systems_of(state).items()),
        sms=SmsSettings(enabled=known.sms_enabled),
        otp_scheduling=OtpSchedulingSettings(
            enabled=form.enabled, countries=form.countries, use_own_numbers=form.use_own_numbers
        ),
    )


def _system(name: str, record: BusinessSystem, now: int) -> BusinessSystemSettings:
    return BusinessSystemSettings(
        system=name,
        name=record.name,
        api_request_url=record.api_request_url,
        remarks=record.remarks,
        signature_style=record.signature_style,
        disabled=record.disabled,
        signatures=tuple(
            SignatureSettings(
                key_id=one.key_id,
                fingerprint=one.fingerprint,
                issued_at=rfc3339(one.issued_at),
                valid_until=None if one.valid_until is None else rfc3339(one.valid_until),
            )
            for one in record.signatures
            if one.is_valid(now)
        ),
        intents=tuple(
            IntentSettings(
                code=code,
                name=intent.name,
                default_data=intent.default_data,
                json_schema=intent.json_schema,
                templates=intent.templates,
            )
            for code, intent in sorted(record.intents.items())
        ),
    )


@dataclass(slots=True)
class ChannelFold:
    """Folds one channel's events and stops at each of the moments, in whatever order these are."""

    channel: str
    moments: Sequence[Moment]
    now: int
    state: ChannelState = field(default_factory=ChannelState)
    last: Happened | None = None
    first: Happened | None = None
    stopped: dict[int, Then] = field(default_factory=dict)

    def take(self, event: Happened, read_to: Position) -> None:
        """Raises `AuditError` where the log cannot be folded."""
        for number, wanted in enumerate(self.moments):
            if number not in self.stopped and wanted.is_before(event):
                self.stopped[number] = self._then(wanted, event, read_to)
        self.first = self.first or event
        try:
            self.state = fold(self.state, event)
        except LookupError as error:
            raise BrokenLog(
                f"The log cannot be folded at {event.position}: {error}; `switchboard audit verify` names the fault."
            ) from None
        self.last = event

    @property
    def done(self) -> bool:
        return len(self.stopped) == len(self.moments)

    def thens(self, read_to: Position) -> list[Then]:
        """An answer for each moment, in their order. Raises `AuditError` for a version that is yet to come."""
        return [
            self.stopped[number] if number in self.stopped else self._then(wanted, None, read_to)
            for number, wanted in enumerate(self.moments)
        ]

    def _then(self, wanted: Moment, following: Happened | None, read_to: Position) -> Then:
        last = self.last
        if wanted.version is not None and following is None:
            version = 0 if last is None else last.envelope.sequence
            if wanted.version > version:
                raise NoSuchVersion(
                    f"Channel {self.channel!r} is at version {version}; version {wanted.version} is yet to come."
                )
        # A version is looked at as it was made; a time at that time, when a signature may have expired since.
        made = 0 if last is None else last.time
        clock = made if wanted.version is not None else wanted.time or max(self.now, made)
        return Then(
            channel=self.channel,
            moment=wanted,
            settings=settings_of(self.channel, self.state, clock),
            state=self.state,
            position=None if last is None else last.position,
            event=None if last is None else last.envelope.id,
            time=None if last is None else last.time,
            clock=clock,
            read_to=read_to,
            notes=tuple(self._notes(wanted, following)),
        )

    def _notes(self, wanted: Moment, following: Happened | None) -> list[str]:
        notes = []
        if wanted.time is not None and wanted.time > self.now:
            notes.append(f"{wanted.text} lies in the future: these are the settings as of now, which may yet change.")
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
) -> list[Then]:
    """A channel's settings at each of the moments, from one reading. Raises `AuditError`."""
    folded = ChannelFold(channel, moments, now)
    end = None
    async with aclosing(channel_events(log, channel, progress)) as events:
        async for event, end in events:
            folded.take(event, end)
            if folded.done:
                break
    if end is None:
        raise NoSuchVersion(f"The log holds no event of channel {channel!r}; the platform registers channels.")
    return folded.thens(end)


async def channel_events(
    log: Log, channel: str, progress: Progress = lambda _: None
) -> AsyncGenerator[tuple[Happened, Position], None]:
    """The channel's events, each with the end of the log that is being read. Raises `AuditError`."""
    spans = await log.spans(topics.EVENTS.name)
    key = channel.encode()
    for home in [home_of(log, topics.EVENTS.name, channel)] if log.partitions else list(spans):
        end = Position(home.topic, home.partition, spans[home].end)
        async for batch in log.read(home, spans[home], progress):
            for record in batch:
                if record.key == key:
                    yield readable(record), end


async def channels_at(
    log: Log,
    moments: Sequence[Moment],
    now: int,
    *,
    account: str | None = None,
    provider: str | None = None,
    progress: Progress = lambda _: None,
) -> list[list[Then]]:
    """The same for each channel of an account, or of a provider's customers, by id.

    A provider's channels are those that name it at the last of the moments.
    """
    if any(wanted.version is not None for wanted in moments):
        raise Unclear("A version belongs to one channel; for several, give a time, or choose the channel.")
    answers = []
    for home, span in (await log.spans(topics.EVENTS.name)).items():
        for folded in (await _folds(log, home, span, moments, now, account, progress)).values():
            thens = folded.thens(Position(home.topic, home.partition, span.end))
            known = thens[-1].state.channel
            if provider is None or (known is not None and known.provider == provider):
                answers.append(thens)
    return sorted(answers, key=lambda thens: thens[0].channel)


async def _folds(
    log: Log, home: Source, span: Span, moments: Sequence[Moment], now: int, account: str | None, progress: Progress
) -> dict[bytes | None, ChannelFold]:
    end = Position(home.topic, home.partition, span.end)
    wanted: dict[bytes | None, ChannelFold] = {}
    others: set[bytes | None] = set()
    async for batch in log.read(home, span, progress):
        for record in batch:
            if record.key in others:
                continue
            event = readable(record)
            folded = wanted.get(record.key)
            if folded is None:
                if account not in (None, event.envelope.accountid):
                    others.add(record.key)
                    continue
                folded = wanted[record.key] = ChannelFold(event.envelope.subject, moments, now)
            if not folded.done:
                folded.take(event, end)
    return wanted


def readable(record: Any) -> Happened:
    """The event; raises `AuditError`."""
    try:
        return happened(record)
    except NotAnEvent as error:
        raise BrokenLog(
            f"{record.topic}/{record.partition}/{record.offset} is no event that can be read: {error}; "
            "`switchboard audit verify` names all that is wrong."
        ) from None
