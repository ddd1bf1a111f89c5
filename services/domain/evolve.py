"""``evolve(state, event) -> state``: pure, closed, and the same live and replayed."""

from __future__ import annotations

from typing import assert_never

from contracts.business_system import (
    BusinessSystemDeleted,
    BusinessSystemDisabled,
    BusinessSystemEdited,
    BusinessSystemEnabled,
    BusinessSystemOpened,
)
from contracts.channel import ChannelEdited, ChannelRegistered, ChannelRetired
from contracts.commands import Event
from contracts.intent import IntentAdded, IntentDeleted, IntentEdited, IntentReferredTo, IntentReleased
from contracts.otp_scheduling import OtpSchedulingSaved
from contracts.signature import SignatureRefreshed, SignatureRevealed, SignatureRevoked
from contracts.sms import SmsActivated, SmsDeactivated
from services.domain import business_system, intent, otp_scheduling, signature, sms
from services.domain import channel as channels
from services.domain.decision import Mark
from services.domain.state import Channel, ChannelState, replace


def evolve(state: ChannelState, event: Event, account: str, mark: Mark) -> ChannelState:
    """The state after the event. Raises LookupError where the history is none that decisions can have made."""
    if isinstance(event, ChannelRegistered):
        return state.with_channel(channels.registered(event, account, mark))
    known = state.channel
    if known is None:
        raise LookupError(f"{type(event).__name__} happened to a channel that was never registered")
    after = _apply(state, known, event, mark)
    channel = after.channel
    if channel is None or channel is known:
        return after.with_channel(replace(known, version=mark.version, time=mark.time, head=mark.head))
    # Made just now, and not handed out yet: marking it here spares another copy for each event.
    channel.version, channel.time, channel.head = mark
    return after


def _apply(  # noqa: C901 -- one closed match over every event is the point
    state: ChannelState, known: Channel, event: Event, mark: Mark
) -> ChannelState:
    match event:  # in the order of `decide`
        case SmsActivated():
            return state.with_channel(sms.switched(known, mark, on=True))
        case SmsDeactivated():
            return state.with_channel(sms.switched(known, mark, on=False))
        case OtpSchedulingSaved():
            return state.with_channel(otp_scheduling.saved(known, event, mark))
        case ChannelEdited():
            return state.with_channel(channels.edited(known, event, mark))
        case ChannelRegistered():
            raise LookupError("a channel is registered once")
        case ChannelRetired():
            return ChannelState(channels.retired(known, mark), {}, state.load)
        case BusinessSystemOpened():
            return business_system.opened(state, known, event, mark)
        case BusinessSystemEdited():
            return business_system.edited(state, known, event, mark)
        case BusinessSystemDeleted():
            return business_system.deleted(state, known, event, mark)
        case BusinessSystemDisabled() | BusinessSystemEnabled():
            return business_system.switched(state, known, event, mark)
        case SignatureRefreshed():
            return signature.refreshed(state, known, event, mark)
        case SignatureRevealed():
            return signature.revealed(state, known, event, mark)
        case SignatureRevoked():
            return signature.revoked(state, known, event, mark)
        case IntentAdded():
            return intent.added(state, known, event, mark)
        case IntentEdited():
            return intent.edited(state, known, event, mark)
        case IntentDeleted():
            return intent.deleted(state, known, event, mark)
        case IntentReferredTo() | IntentReleased():
            return intent.templates_changed(state, known, event, mark)
        case _:
            assert_never(event)
