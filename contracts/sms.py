"""Activate SMS: the switch of a channel without which no SMS fallback may happen."""

from __future__ import annotations

from .message import CommandData, EventData


class ToggleSms(CommandData):
    enabled: bool


class SmsActivated(EventData):
    pass


class SmsDeactivated(EventData):
    pass
