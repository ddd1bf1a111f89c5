"""Activate SMS: a switch of any channel."""

from __future__ import annotations

from contracts.sms import SmsActivated, SmsDeactivated, ToggleSms
from services.domain.decision import NOTHING_CHANGES, Decision, Mark
from services.domain.state import Channel, replace


def toggle(channel: Channel, command: ToggleSms) -> Decision:
    if command.enabled == channel.sms_enabled:
        return NOTHING_CHANGES
    return Decision((SmsActivated() if command.enabled else SmsDeactivated(),))


def switched(channel: Channel, mark: Mark, *, on: bool) -> Channel:
    return replace(channel, sms_enabled=on, sms_changed=mark.version)
