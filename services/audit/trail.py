"""The audit log: what happened and what was refused, by whom, from where, before and after; reveals included.

Events are kept for ever, rejections as long as the outcomes topic keeps them (90 days).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from contracts import topics
from contracts.message import milliseconds_of
from contracts.outcome import CommandRejected, OutcomeEnvelope
from services.audit.as_of import readable
from services.audit.history import Folds, Happened, fold
from services.audit.leaves import MISSING, changes, leaves_below
from services.audit.log import BrokenLog, Log, LogRecord, Position, Progress, Source, Span, home_of, position_of
from services.domain.state import ChannelState

_READ = (topics.EVENTS.name, topics.OUTCOMES.name)
_REJECTED = b'"type":"CommandRejected"'


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for; None asks for all. ``since`` and ``until`` are Unix milliseconds, the latter excluded.

    ``type`` is an event's, a command's, or a rejection's name.
    """

    channel: str | None = None
    account: str | None = None
    actor: str | None = None
    type: str | None = None
    since: int | None = None
    until: int | None = None

    def fits(self, entry: Entry) -> bool:
        return (
            self.account in (None, entry.account)
            and self.channel in (None, entry.channel)
            and self.actor in (None, entry.actor)
            and (self.type is None or self.type in (entry.type, entry.command, entry.rejection))
            and (self.since is None or entry.time_ms >= self.since)
            and (self.until is None or entry.time_ms < self.until)
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit log: an event, or a rejection. ``before`` and ``after`` hold what the event changed."""

    position: Position
    id: str
    time: str
    time_ms: int
    account: str
    channel: str
    type: str
    command: str | None
    command_id: str
    actor: str | None
    source: str | None
    version: int | None
    resource: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = None
    rejection: str | None = None
    message: str | None = None
    repeated: bool = False

    def answer(self) -> dict[str, Any]:
        """As JSON; what does not apply is left out."""
        shown: dict[str, Any] = {"position": self.position.cited()}
        for name in self.__slots__:
            value = getattr(self, name)
            if name not in ("position", "time_ms") and value is not None and value is not False:
                shown[name] = value
        return shown


async def spans_asked(log: Log, asked: Asked) -> dict[Source, Span]:
    """What must be read: events and outcomes, of the channel's home alone where one is asked for."""
    spans = await log.spans(*_READ)
    if asked.channel is None or not log.partitions:
        return spans
    return {home: spans[home] for home in (home_of(log, topic, asked.channel) for topic in _READ)}


async def trail(
    log: Log, asked: Asked, spans: Mapping[Source, Span], progress: Progress = lambda _: None
) -> AsyncGenerator[Entry, None]:
    """The entries that are asked for, in the order of time. Raises `AuditError` where the log cannot be read.

    What an event changed is known only by folding its channel from the beginning, so that is what is done.
    """
    folds = Folds()
    key = None if asked.channel is None else asked.channel.encode()
    async for record in log.merged(spans, progress):
        if key is not None and record.key != key:
            continue
        entry = _of_event(record, folds, asked) if record.topic == topics.EVENTS.name else _of_outcome(record)
        if entry is not None and asked.fits(entry):
            yield entry


def _of_event(record: LogRecord, folds: Folds, asked: Asked) -> Entry | None:
    event = readable(record)
    envelope = event.envelope
    if asked.account not in (None, envelope.accountid):
        return None
    state = folds.get(envelope.subject)
    try:
        after = fold(state, event)
    except LookupError as error:
        raise BrokenLog(
            f"The log cannot be folded at {event.position}: {error}; `switchboard audit verify` names the fault."
        ) from None
    folds.put(envelope.subject, after)
    return entry_of(event, state, after)


def entry_of(event: Happened, before: ChannelState, after: ChannelState) -> Entry:
    """What the audit tells of the event, given the channel's state before and after it."""
    envelope = event.envelope
    was, becomes = what_changed(event, before, after)
    return Entry(
        position=event.position,
        id=envelope.id,
        time=envelope.time,
        time_ms=event.time,
        account=envelope.accountid,
        channel=envelope.subject,
        type=envelope.type,
        command=envelope.commandtype,
        command_id=envelope.causationid,
        actor=envelope.actor,
        source=envelope.commandsource,
        version=envelope.sequence,
        resource=envelope.resource,
        before=was,
        after=becomes,
        data=envelope.data,
    )


def what_changed(event: Happened, before: ChannelState, after: ChannelState) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the event changed, as path -> value, before it and after it; both empty for a reveal."""
    resource = event.envelope.resource
    found = changes(leaves_below(before, resource, event.time), leaves_below(after, resource, event.time))
    was = {"/".join(path): one for path, (one, _) in found.items() if one is not MISSING}
    becomes = {"/".join(path): one for path, (_, one) in found.items() if one is not MISSING}
    return was, becomes


def _of_outcome(record: LogRecord) -> Entry | None:
    """A rejection; None for every other outcome."""
    value = record.value
    if value is None or _REJECTED not in value:
        return None
    try:
        envelope = OutcomeEnvelope.model_validate_json(value)
        body = envelope.body()
        time = milliseconds_of(envelope.time)
    except (ValidationError, ValueError) as error:
        raise BrokenLog(f"{position_of(record)} is no outcome that can be read: {type(error).__name__}.") from None
    if not isinstance(body, CommandRejected):
        return None
    return Entry(
        position=position_of(record),
        id=envelope.id,
        time=envelope.time,
        time_ms=time,
        account=envelope.accountid,
        channel=envelope.subject,
        type=envelope.type,
        command=envelope.commandtype,
        command_id=envelope.causationid,
        actor=envelope.actor,
        source=envelope.commandsource,
        version=body.version,
        rejection=body.rejection,
        message=body.message,
        repeated=envelope.repeated,
    )
