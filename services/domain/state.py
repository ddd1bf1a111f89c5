"""The state of a channel: one record for the channel, and one for each of its business systems.

Records are never changed: a change makes a new one. `Channel` and `ChannelState`, which every event makes anew, are not
declared frozen, because creating them would take three times as long. Times are Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Annotated, Any

from pydantic import Field

from contracts.approvals import ApprovalsSettings
from contracts.business_system import SignatureStyle
from contracts.channel import ChannelType
from contracts.envelope import GENESIS
from contracts.otp_scheduling import OtpSchedulingSettings
from contracts.section import SectionSettings
from contracts.sms import SmsSettings
from contracts.spend_guard import GuardMode, MaxRate, SpendGuardSettings
from services.domain.decision import EventMetadata

BUSINESS_SYSTEMS_LIMIT = 10
INTENTS_LIMIT = 200
BUSINESS_SYSTEM_BYTES_LIMIT = 256 * 1024
DRAFTS_LIMIT = 5
REMEMBERED_DELETIONS = 64
"""This many deletions keep their version each; older ones share the newest version among them."""
PROPOSED_CHANGES_LIMIT = 10
"""Open ones of a channel, at most about 4 KiB each."""
REMEMBERED_CHANGES = 64
"""This many closed changes are known as such; older ones are unknown."""


class ImpossibleHistory(LookupError):
    """The event cannot have happened in this state: no decision leads to it. The message is a clause that says why."""


@dataclass(frozen=True, slots=True)
class Signature:
    """``valid_until`` is None on the current signature, and the end of the grace period on an older one."""

    key_id: str
    fingerprint: str
    issued_at: int
    valid_until: int | None = None

    def is_valid(self, now: int) -> bool:
        return self.valid_until is None or self.valid_until > now


@dataclass(frozen=True, slots=True)
class Draft:
    """A signature issued for an API Request URL before its business system is opened."""

    system: str
    key_id: str
    fingerprint: str
    issued_at: int
    api_request_url: str


@dataclass(frozen=True, slots=True)
class Deletions:
    """The versions in which deleted things were last changed, so that a stale expected version is noticed.

    Bounded: a forgotten deletion counts as changed in version ``floor``, which can only refuse too much, never too
    little.
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
    """As `OtpSchedulingSettings`; a dataclass, because pydantic models would make encoding a channel slower by 40%."""

    enabled: bool = False
    countries: tuple[str, ...] = ()
    use_own_numbers: bool = False


NOTHING_SCHEDULED = OtpScheduling()


@dataclass(frozen=True, slots=True)
class SpendGuard:
    """As `SpendGuardSettings`; ``max_rate`` is an amount, a decimal in text, and its currency."""

    mode: GuardMode = "off"
    max_rate: tuple[str, str] | None = None
    daily_messages_per_country: int | None = None

    def settings(self) -> SpendGuardSettings:
        most = self.max_rate
        return SpendGuardSettings(
            mode=self.mode,
            max_rate=None if most is None else MaxRate(amount=most[0], currency=most[1]),
            daily_messages_per_country=self.daily_messages_per_country,
        )


NOTHING_GUARDED = SpendGuard()


@dataclass(frozen=True, slots=True)
class ProposedChange:
    """A change that waits for approval, or, approved, for its instant: ``at``, Unix milliseconds.

    ``type`` and ``data`` are the command's, ``resource`` is what it changes. ``expected_version`` is the channel's
    version that it was judged at, ``changed`` the version in which its own status changed last. ``owner`` is the person
    that the author, a key, belongs to.
    """

    type: str
    data: dict[str, Any]
    resource: str
    author: str
    expected_version: int
    changed: int
    at: int | None = None
    approved_by: str | None = None
    owner: str | None = None

    @property
    def person(self) -> str:
        return self.owner or self.author


@dataclass(frozen=True, slots=True)
class ClosedChange:
    """A change that can no longer be decided about: applied, declined or voided."""

    status: str
    changed: int


@dataclass(slots=True)
class Channel:
    """``version``, ``time`` and ``head`` are the sequence, time and hash of the channel's last event; ``…_changed`` are
    the versions in which parts of it changed last. Only `after` makes a changed channel."""

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
    signatures_issued: Annotated[int, Field(alias="signatures_drawn")] = 0
    """The number of the last key id: none is ever used twice. The alias is the name in stored records."""
    closed: Deletions = field(default_factory=lambda: NOTHING_DELETED)
    """Of the business systems that are not open."""
    home_country: str | None = None
    international_rates_from: dict[str, str] | None = None
    """Recipient's country -> date; None where no international rate applies."""
    spend_guard: SpendGuard = field(default_factory=lambda: NOTHING_GUARDED)
    spend_guard_changed: int = 0
    approvals: tuple[str, ...] = ()
    """The parts that a second person must approve changes of; sorted."""
    approvals_changed: int = 0
    open_changes: dict[str, ProposedChange] = field(default_factory=dict)
    closed_changes: dict[str, ClosedChange] = field(default_factory=dict)
    """Of the proposed changes, the last `REMEMBERED_CHANGES`, oldest first."""

    def sections(self) -> dict[str, SectionSettings]:
        """Every section's settings, by its field in `ChannelSettings`."""
        scheduling = self.otp_scheduling
        return {
            "sms": SmsSettings(enabled=self.sms_enabled),
            "otp_scheduling": OtpSchedulingSettings(
                enabled=scheduling.enabled, countries=scheduling.countries, use_own_numbers=scheduling.use_own_numbers
            ),
            "spend_guard": self.spend_guard.settings(),
            "approvals": ApprovalsSettings(required_for=self.approvals),
        }

    def draft_of(self, system: str) -> Draft | None:
        return next((draft for draft in self.drafts if draft.system == system), None)

    def after(self, metadata: EventMetadata, **changes: Any) -> Channel:
        """The channel after an event that changes these fields. Takes half as long as `dataclasses.replace`."""
        channel = Channel(*_all_fields(self))
        channel.version, channel.time, channel.head = metadata
        for name, value in changes.items():
            setattr(channel, name, value)
        return channel


_all_fields = attrgetter(*(each.name for each in fields(Channel)))


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
    """Newest first; expired ones are dropped at the next change of the signature."""
    intents: dict[str, Intent] = field(default_factory=dict)
    deleted_intents: Deletions = field(default_factory=lambda: NOTHING_DELETED)

    def last_change(self) -> int:
        """The version in which any part of the system changed last."""
        intents = (intent.changed for intent in self.intents.values())
        deletions = self.deleted_intents.versions.values()
        return max(self.changed, self.signature_changed, self.deleted_intents.floor, *intents, *deletions)

    def templates(self) -> list[str]:
        return sorted({template for intent in self.intents.values() for template in intent.templates})


def _no_system(system: str) -> BusinessSystem:
    raise LookupError(f"the state has no record of business system {system!r}")


@dataclass(slots=True)
class ChannelState:
    """A channel with its business systems, which are loaded on first access.

    ``load`` returns the stored record of an open system; ``changed_systems`` has the records that events have changed.
    """

    channel: Channel | None = None
    changed_systems: dict[str, BusinessSystem] = field(default_factory=dict)
    load: Callable[[str], BusinessSystem] = _no_system

    def system(self, system: str) -> BusinessSystem | None:
        if self.channel is None or system not in self.channel.systems:
            return None
        found = self.changed_systems.get(system)
        return self.load(system) if found is None else found

    def open_system(self, system: str) -> BusinessSystem:
        """The system that an event is about. Raises `ImpossibleHistory` where it is not open."""
        found = self.system(system)
        if found is None:
            raise ImpossibleHistory(f"business system {system!r} is not open")
        return found

    def with_channel(self, channel: Channel) -> ChannelState:
        return ChannelState(channel, self.changed_systems, self.load)

    def with_system(self, channel: Channel, system: str, record: BusinessSystem) -> ChannelState:
        return ChannelState(channel, {**self.changed_systems, system: record}, self.load)

    def without_system(self, channel: Channel, system: str) -> ChannelState:
        remaining = {key: record for key, record in self.changed_systems.items() if key != system}
        return ChannelState(channel, remaining, self.load)
