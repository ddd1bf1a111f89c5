"""Activate SMS: the switch of a channel without which no SMS fallback may happen."""

from __future__ import annotations

from typing import ClassVar

from .message import CommandData
from .section import SectionEvent, SectionSettings

RESOURCE = "sms"


class ToggleSms(CommandData):
    """Switches SMS on or off."""

    resource: ClassVar[str] = RESOURCE

    enabled: bool


class SmsSettings(SectionSettings):
    """Whether an SMS may follow where a chat message fails."""

    resource: ClassVar[str] = RESOURCE

    enabled: bool = False

    def save_command(self) -> ToggleSms:
        return ToggleSms(enabled=self.enabled)


class SmsActivated(SectionEvent):
    """SMS was switched on."""

    resource: ClassVar[str] = RESOURCE
    settings = SmsSettings

    def section(self) -> SmsSettings:
        return SmsSettings(enabled=True)


class SmsDeactivated(SectionEvent):
    """SMS was switched off."""

    resource: ClassVar[str] = RESOURCE
    settings = SmsSettings

    def section(self) -> SmsSettings:
        return SmsSettings(enabled=False)
