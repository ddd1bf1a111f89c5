"""SMS: a switch that any channel has."""

from __future__ import annotations

from contracts.sms import SmsActivated, SmsDeactivated, ToggleSms
from services.domain.decision import NOTHING_CHANGES, Decision, EventMetadata
from services.domain.state import Channel


def toggle(channel: Channel, command: ToggleSms) -> Decision:
    if command.enabled == channel.sms_enabled:
        return NOTHING_CHANGES
    return Decision((SmsActivated() if command.enabled else SmsDeactivated(),))


def toggled(channel: Channel, metadata: EventMetadata, *, enabled: bool) -> Channel:
    return channel.after(metadata, sms_enabled=enabled, sms_changed=metadata.version)
