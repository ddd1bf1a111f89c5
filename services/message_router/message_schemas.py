"""What the gateway answers about messages, rates, scheduling resources and usage: for the OpenAPI document.

No answer is validated by these types.
"""

from __future__ import annotations

from pydantic import with_config
from typing_extensions import TypedDict

from contracts.message import Time
from contracts.message_routing import Category, ExpectedRate, FeeClass, GuardFinding, Route, RoutingRefused, Rule
from contracts.rates import Rate
from contracts.usage import MessageCharged
from services.message_router.message_log import MessageState
from services.message_router.resource_list import ResourceState


@with_config(use_attribute_docstrings=True)
class Decision(TypedDict):
    """The route of a message, and what it rests on."""

    message: str
    route: Route
    rule: Rule
    """What decided the route."""

    sentence: str
    category: Category
    country: str | None
    """Of the recipient; null where it has none."""

    country_source: str
    resource: str | None
    """The scheduling resource of which a unit is reserved."""

    sender: str | None
    fee_class: FeeClass | None
    rate: ExpectedRate | None
    international: bool
    settings_version: int
    """The version of the channel's settings that decided."""

    rate_book: int | None
    reserved_until: Time | None
    guard: GuardFinding | None
    """What the spend guard found."""

    sent_today: int | None
    """What the spend guard's counter had for the country."""

    decided_at: Time


@with_config(use_attribute_docstrings=True)
@with_config(use_attribute_docstrings=True)
class _MessageFacts(TypedDict):
    message: str
    channel: str
    account: str
    state: MessageState
    """Of its route: what became of the message then is in `statuses`."""

    category: Category
    country: str | None
    requested_at: Time
    statuses: list[str]
    """Those that counted, each as `via` and `status`."""


@with_config(use_attribute_docstrings=True)
class ListedMessage(_MessageFacts):
    """A message in a list: without its recipient, as everywhere."""

    route: Route | None
    rule: Rule | None
    reason: str | None
    """Why it was refused: a stable name."""

    sentence: str | None
    decided_at: Time | None
    reservation: str
    """`none`, or how the reservation of a unit stands."""

    sms_fallback: str
    """`none`, or how the SMS fallback stands."""


class MessagePage(TypedDict):
    """A page of messages, newest first."""

    messages: list[ListedMessage]
    next: str | None


# `from` is no name of a field in Python's syntax of classes.
ChangedRoutes = TypedDict("ChangedRoutes", {"from": Route, "to": Route, "messages": int})


@with_config(use_attribute_docstrings=True)
class CountryWhatIf(TypedDict):
    """What would have become of the messages to a country."""

    country: str | None
    messages: int
    changes: list[ChangedRoutes]
    """Messages that would have been routed differently."""

    unknown: int
    """Messages whose recorded decision did not ask the pool for a unit, so nobody knows whether there was one."""

    unpriced: int
    """Messages without a rate, before or after; the costs are without them and the unknown ones."""

    cost_before: dict[str, str]
    """By currency, decimals in text; and so is the next."""

    cost_after: dict[str, str]


class WhatIfReport(TypedDict):
    """Recorded decisions under other settings, by country."""

    countries: list[CountryWhatIf]


@with_config(use_attribute_docstrings=True)
class Reservation(TypedDict):
    """A unit of a scheduling resource that was reserved for a message."""

    state: str
    resource: str | None
    reserved_until: Time | None
    posted_late: bool
    """Charged after the reservation had expired."""


@with_config(use_attribute_docstrings=True)
class Fallback(TypedDict):
    """The SMS fallback that the request asked for."""

    state: str
    on: list[str]
    wait_seconds: int | None
    fires_at: Time | None


@with_config(use_attribute_docstrings=True, extra="allow")
class TimelineEntry(TypedDict):
    """Something that happened to the message; its other members are those of its type."""

    at: Time
    type: str
    """Of the request, decision, status, or notice: the name of the message on Kafka."""


@with_config(use_attribute_docstrings=True)
class Message(_MessageFacts):
    """A message with its timeline."""

    decision: Decision | None
    refusal: RoutingRefused | None
    reservation: Reservation | None
    sms_fallback: Fallback | None
    charge: MessageCharged | None
    timeline: list[TimelineEntry]


class StatusReported(TypedDict):
    """A status that is on its way to the message router."""

    report_id: str
    message: str


class RateBook(TypedDict):
    """A whole rate book."""

    version: int
    sample: bool
    rates: list[Rate]


@with_config(use_attribute_docstrings=True)
class RateBookPage(TypedDict):
    """Rates of a rate book, in its order."""

    version: int
    sample: bool
    rates: list[Rate]
    next: str | None
    """Continues after these rates, in the same rate book; null on the last page."""


@with_config(use_attribute_docstrings=True)
class SchedulingResource(TypedDict):
    """One of the platform's pools of sender numbers."""

    resource: str
    country: str
    sender: str
    units: int
    """As reported."""

    available: int
    """What is left after the reservations since the report."""

    as_of: Time
    valid_until: Time
    state: ResourceState


class CountryState(TypedDict):
    """Whether a country has a unit, and if not why."""

    country: str
    state: ResourceState


class SchedulingResources(TypedDict):
    """To the platform: its resources."""

    resources: list[SchedulingResource]


class SchedulingCountries(TypedDict):
    """To everybody else: the countries that have resources."""

    countries: list[CountryState]


class ReportedResource(TypedDict):
    """A report that is on its way to the message router."""

    resource: str


@with_config(use_attribute_docstrings=True)
class UsageRow(TypedDict):
    """What is charged for a day, channel, country and fee class."""

    day: str
    """The UTC day on which it was booked."""

    account: str
    channel: str
    country: str
    fee_class: FeeClass
    messages: int
    amount: str | None
    """A decimal in text; null where the rate book had no rate."""

    currency: str | None
    correction_of: str | None
    """The day that was over when the charge came."""


class UsageReport(TypedDict):
    """The rows by day, account and channel."""

    usage: list[UsageRow]
