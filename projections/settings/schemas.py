"""Parts of a channel's settings as they are answered: for the OpenAPI document; no answer is validated by these types.

The whole is `contracts.settings.ChannelSettings`.
"""

from __future__ import annotations

from typing import NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from contracts.channel import ChannelType
from contracts.settings import BusinessSystemSettings, IntentSettings


@with_config(use_attribute_docstrings=True)
class Channel(TypedDict):
    """A channel without its settings."""

    channel: str
    account: str
    channel_type: ChannelType
    name: str
    provider: str | None
    """Who runs it for the account."""

    retired: bool
    home_country: str | None
    """Where the business is based."""

    international_rates_from: dict[str, str] | None
    """Recipient's country -> the date from which international rates apply."""

    version: int


@with_config(use_attribute_docstrings=True)
class ChannelPage(TypedDict):
    """Channels by id."""

    channels: list[Channel]
    next: str | None
    cursor: str | None
    """Changes continue after it; null while the broker is away."""


class BusinessSystemList(TypedDict):
    """The channel's business systems."""

    business_systems: list[BusinessSystemSettings]


class IntentList(TypedDict):
    """The business system's intents."""

    intents: list[IntentSettings]


@with_config(use_attribute_docstrings=True)
class CustomersChannel(TypedDict):
    """A channel beside those of other customers."""

    channel: str
    channel_type: ChannelType
    name: str
    retired: bool
    version: int
    differs: NotRequired[list[str]]
    """The sections that are not as the template's, and the business systems, such as `business-systems/crm`, that only
    one of the two has or whose fields or intents differ; none of a retired channel, which cannot change. Only with a
    template."""


@with_config(use_attribute_docstrings=True)
class Customer(TypedDict):
    """An account and its channels that the caller may reach."""

    account: str
    channel_count: int
    retired_count: int
    channels: list[CustomersChannel]
    """Those on this page."""


@with_config(use_attribute_docstrings=True)
class CustomerPage(TypedDict):
    """Customers by account, each with its channels by id."""

    customers: list[Customer]
    next: str | None
    cursor: str | None
    """Changes continue after it; null while the broker is away."""
