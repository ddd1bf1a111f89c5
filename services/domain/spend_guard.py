"""The spend guard: saved as a whole, on any channel."""

from __future__ import annotations

from contracts.rates import canonical_amount
from contracts.rejection import Rejection
from contracts.rejections import SpendGuardNeedsLimit
from contracts.spend_guard import SavedMaxRate, SaveSpendGuard, SpendGuardSaved
from services.domain.decision import NOTHING_CHANGES, Decision, EventMetadata
from services.domain.state import Channel, SpendGuard


def save(channel: Channel, command: SaveSpendGuard) -> Decision | Rejection:
    if command.mode != "off" and command.max_rate is None and command.daily_messages_per_country is None:
        return SpendGuardNeedsLimit(mode=command.mode)
    most = command.max_rate
    max_rate = None if most is None else SavedMaxRate(amount=canonical_amount(most.amount), currency=most.currency)
    event = SpendGuardSaved(
        mode=command.mode, max_rate=max_rate, daily_messages_per_country=command.daily_messages_per_country
    )
    return NOTHING_CHANGES if _settings(event) == channel.spend_guard else Decision((event,))


def saved(channel: Channel, event: SpendGuardSaved, metadata: EventMetadata) -> Channel:
    return channel.after(metadata, spend_guard=_settings(event), spend_guard_changed=metadata.version)


def _settings(event: SpendGuardSaved) -> SpendGuard:
    most = event.max_rate
    return SpendGuard(
        event.mode, None if most is None else (most.amount, most.currency), event.daily_messages_per_country
    )
