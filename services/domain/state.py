"""What the decider knows of a channel: one record for the channel, and one for each business system.

Records are small, and nobody changes one: a change makes a new one. `Channel` and `ChannelState`, which every event
makes anew, are not declared frozen, because that makes them three times as slow to make. Times are Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from contracts.business_system import SignatureStyle
from contracts.channel import ChannelType
from contracts.envelope import GENESIS

BUSINESS_SYSTEMS_LIMIT = 10
INTENTS_LIMIT = 200
BUSINESS_SYSTEM_BYTES_LIMIT = 256 * 1024
DRAFTS_LIMIT = 5
REMEMBERED_DELETIONS = 64
"""So many deleted things keep the version of their deletion each; older ones share the newest of theirs."""


@dataclass(frozen=True, slots=True)
class Signature:
    """``valid_until`` is None on the current one, and the end of the grace period on an older one."""

    key_id: str
    fingerprint: str
    issued_at: int
    valid_until: int | None = None

    def is_valid(self, now: int) -> bool:
        return self.valid_until is None or self.valid_until > now


@dataclass(frozen=True, slots=True)
class Draft:
    """A signature drawn before Open is confirmed, for the API Request URL that was filled in."""

    system: str
    key_id: str
    fingerprint: str
    issued_at: int
    api_request_url: str


@dataclass(frozen=True, slots=True)
class Deletions:
    """In which version things that are gone were last changed, so that a stale expectation of them is noticed.

    Bounded: what is forgotten counts as changed in ``floor``, which can only refuse too much, never too little.
    """

    versions: dict[str, int] = field(default_factory=dict)
    floor: int = 0

    def changed_at(self, name: str) -> int:
        return self.versions.get(name, self.floor)

    def with_change(self, name: str, version: int) -> Deletions:
        versions = {key: value for key, value in self.versions.items() if key != name} | {name: version}
        if len(versions) <= REMEMBERED_DELETIONS:
            return Deletions(versions, self.floor)
        oldest = next(iter(versions))
        return Deletions(versions, max(self.floor, versions.pop(oldest)))

    def without(self, name: str) -> Deletions:
        if name not in self.versions:
            return self
        return Deletions({key: value for key, value in self.versions.items() if key != name}, self.floor)


NOTHING_DELETED = Deletions()


@dataclass(frozen=True, slots=True)
class OtpScheduling:
    enabled: bool = False
    countries: tuple[str, ...] = ()
    use_own_numbers: bool = False


NOTHING_SCHEDULED = OtpScheduling()


@dataclass(slots=True)
class Channel:
    """``head`` is the hash of the channel's last event, ``time`` its time; ``…_changed`` are versions."""

    account: str
    channel_type: ChannelType
    name: str
    provider: str | None = None
    retired: bool = False
    version: int = 0
    head: str = GENESIS
    time: int = 0
    channel_changed: int = 0
    sms_enabled: bool = False
    sms_changed: int = 0
    otp_scheduling: OtpScheduling = field(default_factory=lambda: NOTHING_SCHEDULED)
    otp_scheduling_changed: int = 0
    systems: dict[str, str] = field(default_factory=dict)
    """The open business systems: id -> System Name."""
    drafts: tuple[Draft, ...] = ()
    """Oldest first."""
    signatures_drawn: int = 0
    """Key ids count on from here, so that none is ever used twice."""
    closed: Deletions = field(default_factory=lambda: NOTHING_DELETED)
    """Of business systems that are not open."""

    def draft_of(self, system: str) -> Draft | None:
        return next((draft for draft in self.drafts if draft.system == system), None)


if TYPE_CHECKING:
    from dataclasses import replace as replace
else:
    _every_field = attrgetter(*(one.name for one in fields(Channel)))

    def replace(channel: Channel, **changes: Any) -> Channel:
        """As `dataclasses.replace`, for a channel alone, which nearly every event makes anew: half as long."""
        copy = Channel(*_every_field(channel))
        for name, value in changes.items():
            setattr(copy, name, value)
        return copy


@dataclass(frozen=True, slots=True)
class Intent:
    name: str
    default_data: dict[str, Any]
    json_schema: dict[str, Any] | None
    templates: tuple[str, ...]
    changed: int


@dataclass(frozen=True, slots=True)
class BusinessSystem:
    name: str
    api_request_url: str
    remarks: str
    signature_style: SignatureStyle
    disabled: bool = False
    changed: int = 0
    signature_changed: int = 0
    signatures: tuple[Signature, ...] = ()
    """Newest first; expired ones go with the next change of the signature."""
    intents: dict[str, Intent] = field(default_factory=dict)
    deleted_intents: Deletions = field(default_factory=lambda: NOTHING_DELETED)

    def last_change(self) -> int:
        """The version in which anything of the system changed last."""
        intents = (intent.changed for intent in self.intents.values())
        deletions = self.deleted_intents.versions.values()
        return max(self.changed, self.signature_changed, self.deleted_intents.floor, *intents, *deletions)

    def templates(self) -> list[str]:
        return sorted({template for intent in self.intents.values() for template in intent.templates})


def _no_system(system: str) -> BusinessSystem:
    raise LookupError(f"the state has no record of business system {system!r}")


@dataclass(slots=True)
class ChannelState:
    """A channel with its business systems, which are loaded when they are looked at.

    ``load`` gives the record of a system that the channel lists, ``touched`` those that are decoded already.
    """

    channel: Channel | None = None
    touched: dict[str, BusinessSystem] = field(default_factory=dict)
    load: Callable[[str], BusinessSystem] = _no_system

    def system(self, system: str) -> BusinessSystem | None:
        if self.channel is None or system not in self.channel.systems:
            return None
        found = self.touched.get(system)
        return self.load(system) if found is None else found

    def with_channel(self, channel: Channel) -> ChannelState:
        return ChannelState(channel, self.touched, self.load)

    def with_system(self, channel: Channel, system: str, record: BusinessSystem) -> ChannelState:
        return ChannelState(channel, {**self.touched, system: record}, self.load)

    def without_system(self, channel: Channel, system: str) -> ChannelState:
        touched = {key: record for key, record in self.touched.items() if key != system}
        return ChannelState(channel, touched, self.load)
