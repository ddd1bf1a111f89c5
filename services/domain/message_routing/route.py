"""``route(settings, message, pool, rates, …) -> Decision``: where a message goes, by which rule, and what it may cost.

Pure: time, pool and counters come in as data, so that a dry run is the same function, and a recorded decision can be
decided again from what it cites.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Literal, NamedTuple, assert_never

from contracts.message_routing import Category, FeeClass, Route, Rule
from services.domain.message_routing.country import Country
from services.domain.message_routing.rates import RateEntry, Rates, is_international

RESERVATION_MS = 10 * 60 * 1000
"""A reserved unit is free again after so long without a status."""


@dataclass(frozen=True, slots=True)
class SpendGuard:
    """Limits for authentication messages. ``max_rate`` is an amount and its currency."""

    mode: Literal["off", "monitor", "enforce"] = "off"
    max_rate: tuple[Decimal, str] | None = None
    daily_messages_per_country: int | None = None


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """What of a channel's settings a route depends on, as of ``version``."""

    version: int
    channel_type: str
    scheduling_enabled: bool = False
    countries: frozenset[str] = frozenset()
    use_own_numbers: bool = False
    home_country: str | None = None
    international_rates_from: Mapping[str, str] = field(default_factory=dict)
    spend_guard: SpendGuard = SpendGuard()


class Message(NamedTuple):
    """``country`` is the recipient's. ``now`` and the expected delivery are Unix milliseconds, and the same."""

    category: Category
    country: Country
    now: int


class Unit(NamedTuple):
    """A unit of a scheduling resource that the message may have."""

    resource: str
    sender: str


class NoUnit(NamedTuple):
    """Why there is none for the country."""

    rule: Literal["NoResources", "ResourcesStale", "ResourcesExhausted"]


Pool = Unit | NoUnit


class GuardHit(NamedTuple):
    """The limit of the spend guard that the message is over."""

    mode: Literal["monitor", "enforce"]
    limit: Literal["max_rate", "daily_messages_per_country"]
    sentence: str


class Decision(NamedTuple):
    """``unit`` is to be reserved until ``reserved_until`` (Unix milliseconds). ``rate`` is the expected one."""

    route: Route
    rule: Rule
    sentence: str
    fee_class: FeeClass | None
    rate: RateEntry | None
    international: bool
    unit: Unit | None = None
    reserved_until: int | None = None
    guard: GuardHit | None = None


def needs_unit(settings: RoutingSettings, message: Message) -> bool:
    """Whether a scheduling resource is to be looked for: the pool need not be locked for any other message."""
    return _normal_sending(settings, message) is None


def needs_count(guard: SpendGuard, category: Category) -> bool:
    """Whether the decision depends on how many messages were sent today."""
    limited = guard.mode != "off" and guard.daily_messages_per_country is not None
    return limited and category == "authentication"


def route(
    settings: RoutingSettings, message: Message, pool: Pool, rates: Rates, sent_today: int | None = None
) -> Decision:
    """Decides one message. ``pool`` counts only where `needs_unit`; ``sent_today`` is the number of authentication
    messages of the channel to the country on this UTC day, where the guard has a daily limit."""
    decision = _by_settings(settings, message, pool, rates)
    hit = _guard_hit(settings.spend_guard, message, decision, sent_today)
    if hit is None:
        return decision
    if hit.mode == "monitor":
        return decision._replace(guard=hit)
    return Decision("failed", "SpendGuard", hit.sentence, None, None, decision.international, guard=hit)


def _normal_sending(settings: RoutingSettings, message: Message) -> Rule | None:
    """The first rule by which scheduling does not concern the message; None where it does."""
    if settings.channel_type != "whatsapp":
        return "ChannelNotWhatsApp"
    if message.category != "authentication":
        return "CategoryNotAuthentication"
    if not settings.scheduling_enabled:
        return "SchedulingOff"
    if message.country.code is None:
        return "RecipientHasNoCountry"
    if message.country.code not in settings.countries:
        return "CountryNotChosen"
    return None


def _by_settings(settings: RoutingSettings, message: Message, pool: Pool, rates: Rates) -> Decision:
    day = utc_day(message.now)
    country = message.country.code
    international = message.category == "authentication" and is_international(
        country, settings.home_country, settings.international_rates_from, day
    )
    normal_class: FeeClass = "authentication-international" if international else message.category
    normal_rate = rates.on(day, country, normal_class)
    rule = _normal_sending(settings, message)
    if rule is not None:
        sentence = sentence_of("not_applicable", rule, settings, message)
        return Decision("not_applicable", rule, sentence, normal_class, normal_rate, international)
    if isinstance(pool, Unit):
        sentence = sentence_of("scheduled", "ResourceAvailable", settings, message, pool)
        rate = rates.on(day, country, "scheduled")
        until = message.now + RESERVATION_MS
        return Decision("scheduled", "ResourceAvailable", sentence, "scheduled", rate, international, pool, until)
    if settings.use_own_numbers:
        sentence = sentence_of("own_number", pool.rule, settings, message)
        return Decision("own_number", pool.rule, sentence, normal_class, normal_rate, international)
    return Decision("failed", pool.rule, sentence_of("failed", pool.rule, settings, message), None, None, international)


@lru_cache(16)
def utc_day(milliseconds: int) -> date:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date()


def _guard_hit(guard: SpendGuard, message: Message, decision: Decision, sent_today: int | None) -> GuardHit | None:
    """The first limit that the message is over. A rate in another currency than the limit's cannot be compared, and
    counts as above it: a limit that never held would be taken for one that does."""
    if guard.mode == "off" or message.category != "authentication" or decision.route == "failed":
        return None
    if guard.max_rate is not None and decision.rate is not None:
        most, currency = guard.max_rate
        expected = f"The expected rate of {decision.rate.amount} {decision.rate.currency}"
        if decision.rate.currency != currency:
            sentence = (
                f"{expected} is in another currency than the spend guard's {most} {currency}, so it is not allowed."
            )
            return GuardHit(guard.mode, "max_rate", sentence)
        if decision.rate.amount > most:
            return GuardHit(guard.mode, "max_rate", f"{expected} is above the spend guard's {most} {currency}.")
    limit = guard.daily_messages_per_country
    if limit is not None and sent_today is not None and sent_today >= limit:
        sentence = (
            f"The spend guard allows {limit:,} authentication messages a day to {message.country.code}, and "
            f"{sent_today:,} were sent today."
        )
        return GuardHit(guard.mode, "daily_messages_per_country", sentence)
    return None


def sentence_of(
    chosen: Route, rule: Rule, settings: RoutingSettings, message: Message, unit: Unit | None = None
) -> str:
    """What a support person can read out."""
    reason = _reason(rule, settings, message, unit)
    match chosen:
        case "not_applicable":
            return f"{reason}, so the message is sent normally, from the channel's own numbers."
        case "scheduled":
            return f"{reason}, so the message is sent with OTP delivery scheduling."
        case "own_number":
            return f"{reason}, and Use Own Numbers is on, so the message is sent from the channel's own numbers."
        case "failed":
            return f"{reason}, and Use Own Numbers is off, so the sending fails."
        case _:
            assert_never(chosen)


def _reason(rule: Rule, settings: RoutingSettings, message: Message, unit: Unit | None) -> str:
    country = message.country.code
    match rule:
        case "ChannelNotWhatsApp":
            return (
                f"OTP delivery scheduling is for whatsapp channels only, and this is a {settings.channel_type} channel"
            )
        case "CategoryNotAuthentication":
            return (
                f"OTP delivery scheduling is for authentication messages only, and this is a {message.category} message"
            )
        case "SchedulingOff":
            return "OTP delivery scheduling is off"
        case "RecipientHasNoCountry":
            return "The recipient has no country"
        case "CountryNotChosen":
            return f"OTP delivery scheduling is not chosen for {country}"
        case "ResourceAvailable":
            return f"{country} is chosen, and resource {'' if unit is None else unit.resource} has a unit left"
        case "NoResources":
            return f"{country} is chosen, but it has no scheduling resources"
        case "ResourcesStale":
            return f"{country} is chosen, but the last report of its scheduling resources is too old"
        case "ResourcesExhausted":
            return f"{country} is chosen, but its scheduling resources have no unit left"
        case "SpendGuard":
            return "The spend guard does not allow it"
        case _:
            assert_never(rule)
