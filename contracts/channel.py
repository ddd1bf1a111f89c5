"""A channel: one sender identity of one account on one chat app. Everything else belongs to exactly one channel."""

from __future__ import annotations

from typing import Literal

from .ids import AccountId
from .message import CommandData, EditData, EventData, Name

ChannelType = Literal["whatsapp", "viber", "messenger", "instagram", "telegram", "line"]


class RegisterChannel(CommandData):
    """States that a channel exists. Only the platform around us may send it."""

    channel_type: ChannelType
    name: Name
    enterprise_authenticated: bool
    provider: AccountId | None = None


class EditChannel(EditData):
    """Changes what is given; a ``provider`` of null clears it."""

    name: Name | None = None
    provider: AccountId | None = None


class RetireChannel(CommandData):
    """Ends a channel for good: its signatures are deleted, it refuses everything, it is never registered again."""


class ChannelRegistered(EventData):
    channel_type: ChannelType
    name: str
    enterprise_authenticated: bool
    provider: str | None = None


class ChannelEdited(EventData):
    """Only what changed."""

    name: str | None = None
    provider: str | None = None


class ChannelRetired(EventData):
    pass
