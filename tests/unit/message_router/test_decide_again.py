"""What is published of a decision is all that it rests on: decided again from that, the same comes out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts.message import rfc3339, unix_milliseconds
from contracts.message_routing import MessageRouted
from services.domain.message_routing.country import USER_ID, Country
from services.domain.message_routing.lifecycle import Switches
from services.domain.message_routing.rates import RateEntry, Rates
from services.domain.message_routing.route import (
    Message,
    NoUnit,
    RoutingSettings,
    SpendGuard,
    needs_unit,
    route,
    utc_day,
)
from services.message_router.daily_messages import DailyMessages
from services.message_router.decisions import decision_of
from services.message_router.messages import MessageRow
from services.message_router.notices import Subject
from services.message_router.scheduling_resources import LockedResources, pool_of_record
from services.message_router.settings_replica import RoutedChannel

NOW = int(datetime(2026, 11, 26, 8, tzinfo=UTC).timestamp() * 1000)
BOOKS = {
    version: Rates(
        version,
        {
            ("IN", fee): [RateEntry(utc_day(0), Decimal(amount), "AED")]
            for fee, amount in (("scheduled", f"0.0{version}"), ("authentication", f"0.1{version}"))
        },
    )
    for version in (0, 1, 2)
}
"""The fee class ``authentication-international`` has no rate in any of them."""

COUNTRIES = st.sampled_from(["IN", "ID", "FR"])
AMOUNTS = st.sampled_from([Decimal("0.02"), Decimal("0.12")])
GUARDS = st.builds(
    SpendGuard,
    st.sampled_from(["off", "monitor", "enforce"]),
    st.none() | st.tuples(AMOUNTS, st.sampled_from(["AED", "EUR"])),
    st.none() | st.integers(0, 3),
)
SETTINGS = st.builds(
    RoutingSettings,
    version=st.integers(1, 9),
    channel_type=st.sampled_from(["whatsapp", "viber"]),
    scheduling_enabled=st.booleans(),
    countries=st.frozensets(COUNTRIES),
    use_own_numbers=st.booleans(),
    home_country=st.sampled_from([None, "IN", "AE"]),
    international_rates_from=st.dictionaries(COUNTRIES, st.sampled_from(["2026-11-26", "2026-11-27"])),
    spend_guard=GUARDS,
)
RESOURCES = st.lists(
    st.fixed_dictionaries(
        {
            "resource": st.sampled_from([f"pool-{number}" for number in range(6)]),
            "country": COUNTRIES,
            "sender": st.just("+911234567890"),
            "units": st.integers(0, 3),
            "as_of": st.integers(NOW - 9_000, NOW),
            "valid_until": st.integers(NOW - 1_000, NOW + 1_000),
            "withdrawn": st.booleans(),
            "taken": st.integers(0, 4),
        }
    ),
    max_size=6,
    unique_by=lambda row: row["resource"],
)
MESSAGES = st.tuples(
    st.sampled_from(["authentication", "marketing"]),
    COUNTRIES.map(lambda code: Country(code, "phone-number")) | st.just(USER_ID),
)


def _decided(
    settings: RoutingSettings, message: tuple[Any, Country], resources: list[dict[str, Any]], sent: int, book: int
) -> tuple[Any, MessageRouted]:
    category, country = message
    row = MessageRow(
        Subject(0, "ch", "acme", "m", "m", "m"), "", "waiting", NOW, None, category, country, "h", None, None
    )
    counts = DailyMessages(utc_day(NOW), {("ch", code): sent for code in ("IN", "ID", "FR")})
    channel = RoutedChannel("acme", settings, Switches(sms_enabled=False, retired=False))
    return decision_of(row, channel, LockedResources(resources), counts, BOOKS[book], NOW)


CASES = given(SETTINGS, MESSAGES, RESOURCES, st.integers(0, 4), st.sampled_from([0, 1, 2]))


@CASES
def test_a_published_decision_can_be_decided_again(
    settings: RoutingSettings, message: tuple[Any, Country], resources: list[dict[str, Any]], sent: int, book: int
) -> None:
    decision, published = _decided(settings, message, resources, sent, book)
    read = MessageRouted.model_validate_json(published.model_dump_json())
    again = route(
        settings,
        Message(read.category, Country(read.country, read.country_source), unix_milliseconds(read.decided_at)),
        NoUnit("NoResources") if read.pool is None else pool_of_record(read.pool),
        BOOKS[read.rate_book or 0],
        read.sent_today,
    )
    assert again == decision
    assert read.settings_version == settings.version
    assert read.reserved_until == (None if again.reserved_until is None else rfc3339(again.reserved_until))


@CASES
def test_nothing_is_sent_where_the_settings_forbid_it(
    settings: RoutingSettings, message: tuple[Any, Country], resources: list[dict[str, Any]], sent: int, book: int
) -> None:
    _, published = _decided(settings, message, resources, sent, book)
    concerned = needs_unit(settings, Message(*message, NOW))
    fresh = [one for one in resources if one["country"] == message[1].code and not one["withdrawn"]]
    has_unit = any(one["units"] > one["taken"] and one["valid_until"] >= NOW for one in fresh)
    if published.route == "scheduled":
        assert concerned
        assert has_unit
    if published.route == "own_number":
        assert concerned
        assert settings.use_own_numbers
        assert not has_unit
    if published.route == "not_applicable":
        assert not concerned
    guard = settings.spend_guard
    limit = guard.daily_messages_per_country
    if guard.mode == "enforce" and message[0] == "authentication" and message[1].code and limit is not None:
        assert sent < limit or published.route == "failed"


@CASES
def test_monitoring_never_changes_a_decision(
    settings: RoutingSettings, message: tuple[Any, Country], resources: list[dict[str, Any]], sent: int, book: int
) -> None:
    monitored = replace(settings, spend_guard=replace(settings.spend_guard, mode="monitor"))
    off = replace(settings, spend_guard=SpendGuard())
    assert (
        _decided(monitored, message, resources, sent, book)[0]._replace(guard=None)
        == (_decided(off, message, resources, sent, book)[0])
    )
