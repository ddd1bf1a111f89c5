"""The audit log: events and rejections with actor, source, and the values before and after; reveals included.

Events are kept for ever, rejections as long as the outcomes topic keeps them (90 days).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import TopicPartition
from pydantic import ValidationError

from contracts import topics
from contracts.envelope import Origin
from contracts.message import unix_milliseconds
from contracts.outcome import CommandRejected, OutcomeEnvelope
from contracts.settings_diff import MISSING, diff
from services.audit.log.errors import BrokenLog
from services.audit.log.recorded_event import FoldedChannels, RecordedEvent, fold_unbroken
from services.audit.log.source import (
    Log,
    LogPosition,
    LogRecord,
    OffsetRange,
    Progress,
    position_of,
    sources_of,
)
from services.audit.timeline.channel_settings import affected_leaves
from services.audit.timeline.settings_at import read_event
from services.domain.state import ChannelState

_READ = (topics.EVENTS.name, topics.OUTCOMES.name)
_REJECTED = b'"type":"CommandRejected"'


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Selects entries; None matches all. ``since`` and ``until`` are Unix milliseconds, the latter excluded.

    ``type`` is an event's, a command's, or a rejection's name.
    """

    channel: str | None = None
    account: str | None = None
    actor: str | None = None
    type: str | None = None
    since: int | None = None
    until: int | None = None

    def fits(self, entry: AuditEntry) -> bool:
        return (
            self.account in (None, entry.account)
            and self.channel in (None, entry.channel)
            and self.actor in (None, entry.actor)
            and (self.type is None or self.type in (entry.type, entry.command, entry.rejection))
            and (self.since is None or entry.time_ms >= self.since)
            and (self.until is None or entry.time_ms < self.until)
        )


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit log: an event, or a rejection. ``before`` and ``after`` hold what the event changed."""

    position: LogPosition
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
    origin: Mapping[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        """As JSON; what does not apply is left out."""
        fields: dict[str, Any] = {"position": str(self.position)}
        for name in self.__slots__:
            value = getattr(self, name)
            if name not in ("position", "time_ms") and value is not None and value is not False:
                fields[name] = value
        return fields


async def ranges_to_read(log: Log, asked: AuditFilter) -> dict[TopicPartition, OffsetRange]:
    """The offsets to read: events and outcomes, of the channel's partitions alone if the filter names one."""
    ranges = await log.offset_ranges(*_READ)
    if asked.channel is None or not log.partitions:
        return ranges
    sources = [source for topic in _READ for source in sources_of(log, topic, asked.channel)]
    return {source: ranges[source] for source in sources if source in ranges}


async def read_audit_log(
    log: Log, asked: AuditFilter, ranges: Mapping[TopicPartition, OffsetRange], progress: Progress = lambda _: None
) -> AsyncGenerator[AuditEntry, None]:
    """Yields the matching entries in the order of time. Raises `AuditError` where the log cannot be read."""
    async with aclosing(AuditLogReading(asked).read(log, ranges, progress)) as entries:
        async for entry in entries:
            yield entry


class AuditLogReading:
    """A reading that can be interrupted after an entry, and go on later, with the same log or another connection to it.

    Channels are folded from the beginning, as an event alone does not tell what it changed. ``folded_bytes`` are those
    of the events in the fold, which bounds its memory.
    """

    def __init__(self, asked: AuditFilter) -> None:
        self.asked, self.folded_bytes = asked, 0
        self._key = None if asked.channel is None else asked.channel.encode()
        self._folds = FoldedChannels()
        self._next: dict[TopicPartition, int] = {}
        """The first offset of each partition that is not read yet."""

    async def read(
        self, log: Log, ranges: Mapping[TopicPartition, OffsetRange], progress: Progress = lambda _: None
    ) -> AsyncGenerator[AuditEntry, None]:
        """Yields the matching entries that are not read yet. Raises `AuditError` where the log cannot be read."""
        rest = {
            source: OffsetRange(max(one.first, self._next.get(source, 0)), one.end) for source, one in ranges.items()
        }
        async for record in log.merged(rest, progress):
            self._next[TopicPartition(record.topic, record.partition)] = record.offset + 1
            if self._key is not None and record.key != self._key:
                continue
            entry = self._of_event(record) if record.topic == topics.EVENTS.name else _of_outcome(record)
            if entry is not None and self.asked.fits(entry):
                yield entry

    def _of_event(self, record: LogRecord) -> AuditEntry | None:
        if self.asked.account not in (None, _account_of(record)):
            return None
        event = read_event(record)
        self.folded_bytes += len(record.value or b"")
        channel = event.envelope.subject
        state = self._folds.get(channel)
        after = fold_unbroken(state, event)
        self._folds.put(channel, after)
        return audit_entry(event, state, after)


class _AccountOnly(msgspec.Struct):
    accountid: str


_decode_account = msgspec.json.Decoder(_AccountOnly).decode


def _account_of(record: LogRecord) -> str:
    """The account of an event, found much faster than by reading the event. Raises `AuditError`."""
    try:
        return _decode_account(record.value or b"").accountid
    except (msgspec.DecodeError, UnicodeDecodeError):
        return read_event(record).envelope.accountid


def audit_entry(event: RecordedEvent, before: ChannelState, after: ChannelState) -> AuditEntry:
    """The entry of an event, given the channel's state before and after it."""
    envelope = event.envelope
    was, becomes = changed_values(event, before, after)
    return AuditEntry(
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
        origin=_origin_of(envelope),
    )


def _origin_of(envelope: Origin) -> dict[str, str] | None:
    """What of the origin is known; None if nothing is."""
    known = {name: getattr(envelope, name) for name in Origin.model_fields}
    return {name: value for name, value in known.items() if value is not None} or None


def changed_values(
    event: RecordedEvent, before: ChannelState, after: ChannelState
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the event changed, as path -> value, before it and after it; both empty for a reveal."""
    resource = event.envelope.resource
    found = diff(affected_leaves(before, resource, event.time), affected_leaves(after, resource, event.time))
    was = {"/".join(path): one for path, (one, _) in found.items() if one is not MISSING}
    becomes = {"/".join(path): one for path, (_, one) in found.items() if one is not MISSING}
    return was, becomes


def _of_outcome(record: LogRecord) -> AuditEntry | None:
    """A rejection; None for every other outcome."""
    value = record.value
    if value is None or _REJECTED not in value:
        return None
    try:
        envelope = OutcomeEnvelope.model_validate_json(value)
        body = envelope.body()
        time = unix_milliseconds(envelope.time)
    except (ValidationError, ValueError) as error:
        raise BrokenLog(f"{position_of(record)} is no outcome that can be read: {type(error).__name__}.") from None
    if not isinstance(body, CommandRejected):
        return None
    return AuditEntry(
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
        data=body.model_extra or None,
        repeated=envelope.repeated,
        origin=_origin_of(envelope),
    )
