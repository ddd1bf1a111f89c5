"""``evolve(state, event) -> state``: the fold, pure and closed, and the same live and in a replay."""

from __future__ import annotations

from typing import assert_never

from contracts.approvals import ApprovalsSaved
from contracts.business_system import (
    BusinessSystemDeleted,
    BusinessSystemDisabled,
    BusinessSystemEdited,
    BusinessSystemEnabled,
    BusinessSystemOpened,
)
from contracts.channel import ChannelEdited, ChannelRegistered, ChannelRetired
from contracts.intent import IntentAdded, IntentDeleted, IntentEdited, IntentReferredTo, IntentReleased
from contracts.message_types import Event
from contracts.otp_scheduling import OtpSchedulingSaved
from contracts.proposed_change import ChangeApplied, ChangeApproved, ChangeDeclined, ChangeProposed, ChangeVoided
from contracts.signature import SignatureRefreshed, SignatureRevealed, SignatureRevoked
from contracts.sms import SmsActivated, SmsDeactivated
from contracts.spend_guard import SpendGuardSaved
from services.domain import (
    approvals,
    business_system,
    intent,
    otp_scheduling,
    proposed_change,
    signature,
    sms,
    spend_guard,
)
from services.domain import channel as channels
from services.domain.decision import EventMetadata
from services.domain.state import Channel, ChannelState, ImpossibleHistory


def evolve(state: ChannelState, event: Event, account: str, metadata: EventMetadata) -> ChannelState:
    """The state after the event. Raises `ImpossibleHistory` where no decision can have led to it."""
    channel = state.channel
    if isinstance(event, ChannelRegistered):
        if channel is not None:
            raise ImpossibleHistory("the channel is registered already")
        return state.with_channel(channels.registered(event, account, metadata))
    if channel is None:
        raise ImpossibleHistory(f"{type(event).__name__} happened to a channel that was never registered")
    if channel.retired:
        raise ImpossibleHistory(f"{type(event).__name__} happened to a retired channel")
    try:
        return _apply(state, channel, event, metadata)
    except ValueError as error:  # events take any text, so where a time should be may be none
        raise ImpossibleHistory(f"{type(event).__name__} has a time that is none: {error}") from None


def _apply(  # noqa: C901 -- one closed match over every event is the point
    state: ChannelState, channel: Channel, event: Event, metadata: EventMetadata
) -> ChannelState:
    match event:  # in the order of `decide`, the shortest rules first
        case SmsActivated():
            return state.with_channel(sms.toggled(channel, metadata, enabled=True))
        case SmsDeactivated():
            return state.with_channel(sms.toggled(channel, metadata, enabled=False))
        case OtpSchedulingSaved():
            return state.with_channel(otp_scheduling.saved(channel, event, metadata))
        case SpendGuardSaved():
            return state.with_channel(spend_guard.saved(channel, event, metadata))
        case ApprovalsSaved():
            return state.with_channel(approvals.saved(channel, event, metadata))
        case ChannelEdited():
            return state.with_channel(channels.edited(channel, event, metadata))
        case ChannelRegistered():
            raise ImpossibleHistory("the channel is registered already")
        case ChannelRetired():
            return channels.retired(state, channel, metadata)
        case BusinessSystemOpened():
            return business_system.opened(state, channel, event, metadata)
        case BusinessSystemEdited():
            return business_system.edited(state, channel, event, metadata)
        case BusinessSystemDeleted():
            return business_system.deleted(state, channel, event, metadata)
        case BusinessSystemDisabled() | BusinessSystemEnabled():
            return business_system.switched(state, channel, event, metadata)
        case SignatureRefreshed():
            return signature.refreshed(state, channel, event, metadata)
        case SignatureRevealed():
            return signature.revealed(state, channel, event, metadata)
        case SignatureRevoked():
            return signature.revoked(state, channel, event, metadata)
        case IntentAdded():
            return intent.added(state, channel, event, metadata)
        case IntentEdited():
            return intent.edited(state, channel, event, metadata)
        case IntentDeleted():
            return intent.deleted(state, channel, event, metadata)
        case IntentReferredTo() | IntentReleased():
            return intent.templates_changed(state, channel, event, metadata)
        case ChangeProposed():
            return state.with_channel(proposed_change.proposed(channel, event, metadata))
        case ChangeApproved():
            return state.with_channel(proposed_change.approved(channel, event, metadata))
        case ChangeApplied() | ChangeDeclined() | ChangeVoided():
            return state.with_channel(proposed_change.closed(channel, event, metadata))
        case _:
            assert_never(event)
