"""What audits answer with over HTTP: for the OpenAPI document; no answer is validated by these types."""

from __future__ import annotations

from typing import Any, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from contracts.message import Time
from contracts.settings import ChannelSettings
from services.audit.log.source import Position


@with_config(use_attribute_docstrings=True)
class RestsOn(TypedDict):
    """The last event that an answer rests on."""

    position: Position
    event: str
    """Its id."""

    time: Time


@with_config(use_attribute_docstrings=True)
class SettingsAtJson(TypedDict):
    """A channel's settings at a time."""

    at: str
    """The time as it was asked for."""

    channel: str
    settings: ChannelSettings | None
    """Null before the channel was registered."""

    rests_on: RestsOn | None
    read_to: Position
    """Where the log ended."""

    notes: list[str]
    """Sentences about what the answer does not say."""


class AuditAnswers(TypedDict):
    """The settings of one channel, or of every channel of the account."""

    answers: list[SettingsAtJson]


@with_config(use_attribute_docstrings=True)
class DiffEnd(TypedDict):
    """One of the two times."""

    at: str
    rests_on: RestsOn | None
    read_to: Position
    notes: list[str]


_From = TypedDict("_From", {"from": NotRequired[str]})
_Ends = TypedDict("_Ends", {"from": DiffEnd, "to": DiffEnd})
# `from` is no name that a class could give to a field.


class PatchOperation(_From):
    """An operation of a JSON Patch (RFC 6902)."""

    op: str
    path: str
    value: NotRequired[Any]


@with_config(use_attribute_docstrings=True)
class AuditDiff(_Ends):
    """What changed between two times."""

    channel: str
    words: list[str]
    """A sentence for each change."""

    patch: list[PatchOperation]
    """What turns the earlier settings into the later."""


class Origin(TypedDict):
    """Who sent a command, and from where, beside its actor."""

    actorname: NotRequired[str]
    actorowner: NotRequired[str]
    sourceaddress: NotRequired[str]
    useragent: NotRequired[str]
    requestid: NotRequired[str]


@with_config(use_attribute_docstrings=True)
class AuditEntryJson(TypedDict):
    """An event, or a rejection; what does not apply is left out."""

    position: Position
    id: str
    time: Time
    account: str
    channel: str
    type: str
    """The event's type, or `CommandRejected`."""

    command: NotRequired[str]
    """The command's type."""

    command_id: str
    actor: NotRequired[str]
    source: NotRequired[str]
    """The client that sent the command."""

    version: NotRequired[int]
    resource: NotRequired[str]
    before: NotRequired[dict[str, Any]]
    """What the event changed, as resource/field, with its values before."""

    after: NotRequired[dict[str, Any]]
    data: NotRequired[dict[str, Any]]
    """Of the event, where it changed no setting."""

    rejection: NotRequired[str]
    message: NotRequired[str]
    repeated: NotRequired[bool]
    """An answer that was given before."""

    origin: NotRequired[Origin]


@with_config(use_attribute_docstrings=True)
class AuditLogPage(TypedDict):
    """A page of the audit log, by time."""

    entries: list[AuditEntryJson]
    more: bool
    next: str | None
    read_to: list[Position]
    """The ends of the partitions at the time of reading."""
