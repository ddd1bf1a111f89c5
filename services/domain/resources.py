"""Resources are the paths that versions are kept for, so that two people who change different things do not collide.

A command is stale if its resource, or one below or above it on the same path, changed after the expected version.
"""

from __future__ import annotations

from typing import assert_never

from contracts.business_system import (
    BusinessSystemDeleted,
    BusinessSystemDisabled,
    BusinessSystemEdited,
    BusinessSystemEnabled,
    BusinessSystemOpened,
    DeleteBusinessSystem,
    DisableBusinessSystem,
    EditBusinessSystem,
    EnableBusinessSystem,
    OpenBusinessSystem,
)
from contracts.channel import (
    ChannelEdited,
    ChannelRegistered,
    ChannelRetired,
    EditChannel,
    RegisterChannel,
    RetireChannel,
)
from contracts.commands import Command, Event
from contracts.intent import (
    AddIntent,
    DeleteIntent,
    EditIntent,
    IntentAdded,
    IntentDeleted,
    IntentEdited,
    IntentReferredTo,
    IntentReleased,
    ReferToIntent,
    ReleaseIntent,
)
from contracts.otp_scheduling import OtpSchedulingSaved, SaveOtpScheduling
from contracts.rejections import Rejection, VersionConflict, VersionYetToCome
from contracts.signature import (
    RefreshSignature,
    RevealSignature,
    RevokeSignature,
    SignatureRefreshed,
    SignatureRevealed,
    SignatureRevoked,
)
from contracts.sms import SmsActivated, SmsDeactivated, ToggleSms
from services.domain.state import BusinessSystem, Channel, ChannelState

CHANNEL = "channel"
SMS = "sms"
OTP_SCHEDULING = "otp-scheduling"


def _system(system: str) -> str:
    return f"business-systems/{system}"


def _signature(system: str) -> str:
    return f"business-systems/{system}/signature"


def _intent(system: str, code: str) -> str:
    return f"business-systems/{system}/intents/{code}"


def resource_of_command(command: Command) -> str:
    """The path of what the command is about."""
    match command:  # in the order of `decide`
        case ToggleSms():
            return SMS
        case SaveOtpScheduling():
            return OTP_SCHEDULING
        case EditChannel() | RegisterChannel() | RetireChannel():
            return CHANNEL
        case (
            OpenBusinessSystem()
            | EditBusinessSystem()
            | DeleteBusinessSystem()
            | DisableBusinessSystem()
            | EnableBusinessSystem()
        ):
            return _system(command.system)
        case RefreshSignature() | RevealSignature() | RevokeSignature():
            return _signature(command.system)
        case AddIntent() | EditIntent() | DeleteIntent() | ReferToIntent() | ReleaseIntent():
            return _intent(command.system, command.code)
        case _:
            assert_never(command)


def resource_of_event(event: Event) -> str:
    """The path of what the event changed."""
    match event:  # in the order of `decide`
        case SmsActivated() | SmsDeactivated():
            return SMS
        case OtpSchedulingSaved():
            return OTP_SCHEDULING
        case ChannelRegistered() | ChannelEdited() | ChannelRetired():
            return CHANNEL
        case (
            BusinessSystemOpened()
            | BusinessSystemEdited()
            | BusinessSystemDeleted()
            | BusinessSystemDisabled()
            | BusinessSystemEnabled()
        ):
            return _system(event.system)
        case SignatureRefreshed() | SignatureRevealed() | SignatureRevoked():
            return _signature(event.system)
        case IntentAdded() | IntentEdited() | IntentDeleted() | IntentReferredTo() | IntentReleased():
            return _intent(event.system, event.code)
        case _:
            assert_never(event)


def conflict(state: ChannelState, resource: str, expected: int) -> Rejection | None:
    """Why a command that expects version ``expected`` comes too late, or too early; None where it does not."""
    current = 0 if state.channel is None else state.channel.version
    if expected > current:
        return VersionYetToCome(expected=expected, current=current)
    changed = 0 if state.channel is None else _changed_at(state, state.channel, resource)
    if changed > expected:
        return VersionConflict(resource=resource, expected=expected, changed_at=changed)
    return None


def _changed_at(state: ChannelState, channel: Channel, resource: str) -> int:
    """The version in which the resource, or one below or above it on its path, changed last."""
    match resource.split("/"):
        case ["channel"]:
            return channel.channel_changed
        case ["sms"]:
            return channel.sms_changed
        case ["otp-scheduling"]:
            return channel.otp_scheduling_changed
        case [_, name, *below]:
            system = state.system(name)
            return channel.closed.changed_at(name) if system is None else _changed_in(system, below)
        case _:
            raise ValueError(f"{resource!r} is no resource")


def _changed_in(system: BusinessSystem, below: list[str]) -> int:
    match below:
        case []:
            return system.last_change()
        case ["signature"]:
            return max(system.changed, system.signature_changed)
        case [_, code]:
            intent = system.intents.get(code)
            changed = system.deleted_intents.changed_at(code) if intent is None else intent.changed
            return max(system.changed, changed)
        case _:
            raise ValueError(f"{below!r} is nothing below a business system")
