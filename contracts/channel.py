"""A channel: one sender identity of one account on one chat app. All other settings belong to exactly one channel."""

from __future__ import annotations

from typing import Literal

from .countries import CountryCode
from .ids import AccountId
from .message import CommandData, EditData, EventData
from .names import Name
from .rates import Date
from .resources import ChannelMessage

ChannelType = Literal["whatsapp", "viber", "messenger", "instagram", "telegram", "line"]


class RegisterChannel(ChannelMessage, CommandData):
    """Registers a channel that exists on the platform. Only the platform may send it.

    ``home_country`` is where the business is based, ``international_rates_from`` the date by recipient's country from
    which international authentication rates apply to it.
    """

    channel_type: ChannelType
    name: Name
    enterprise_authenticated: bool
    provider: AccountId | None = None
    home_country: CountryCode | None = None
    international_rates_from: dict[CountryCode, Date] | None = None


class EditChannel(ChannelMessage, EditData):
    """Changes the given fields; null clears all but the name. Only the platform may change the last two."""

    name: Name | None = None
    provider: AccountId | None = None
    home_country: CountryCode | None = None
    international_rates_from: dict[CountryCode, Date] | None = None


class RetireChannel(ChannelMessage, CommandData):
    """Ends a channel for good: its signatures are deleted, every later command and registration is refused.

    Its settings, business systems and intents can still be read.
    """


class ChannelRegistered(ChannelMessage, EventData):
    """A channel was registered: its settings begin."""

    channel_type: ChannelType
    name: str
    enterprise_authenticated: bool
    provider: str | None = None
    home_country: str | None = None
    international_rates_from: dict[str, str] | None = None


class ChannelEdited(ChannelMessage, EventData):
    """Only the fields that changed."""

    name: str | None = None
    provider: str | None = None
    home_country: str | None = None
    international_rates_from: dict[str, str] | None = None


class ChannelRetired(ChannelMessage, EventData):
    """A channel ended for good."""
