"""The invariants 13 and 16: units against the reports, and each decision again from what it cites.

The settings come from the checker's own fold of the events, the rates from the book on the topic, the pool from the
decision's record. What is decided again is the domain's pure function: its rules are the unit tests' matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

from contracts import topics
from contracts.message import rfc3339, unix_milliseconds
from contracts.rates import ApplyRateBook
from services.domain.message_routing.country import Country, country_of
from services.domain.message_routing.rates import NO_RATES, Rates
from services.domain.message_routing.route import Message, NoUnit, RoutingSettings, SpendGuard, needs_unit, route
from services.message_router.scheduling_resources import pool_of_record
from tests.faults.message_router.checker import settings_by_version
from tests.faults.message_router.facts import Facts, Notice
from tests.faults.message_router.log import Log
from tests.faults.message_router.process import RESERVATION_MS


def decided_otherwise(log: Log, facts: Facts) -> Iterator[str]:
    """16: the same comes out again."""
    versions = settings_by_version(log)
    books = {one.json["data"]["version"]: one.json["data"] for one in log.of(topics.RATES)}
    rates = cache(lambda version: Rates.of(ApplyRateBook.model_validate(books[version])) if version else NO_RATES)
    for (_, channel, name), message in facts.messages.items():
        routed = message.routed
        if routed is None:
            continue
        now = unix_milliseconds(routed["decided_at"])
        settings = _settings(versions[channel][routed["settings_version"]], routed["settings_version"])
        recipient = country_of(message.requests[0][1].recipient)
        subject = Message(routed["category"], Country(routed["country"], routed["country_source"]), now)
        if recipient != subject.country:
            yield f"message {name}: decided for {subject.country}, asked for {recipient}"
        if needs_unit(settings, subject) != (routed["pool"] is not None):
            yield f"message {name}: decided with the pool {routed['pool']}"
            continue
        pool = NoUnit("NoResources") if routed["pool"] is None else pool_of_record(routed["pool"])
        again = route(settings, subject, pool, rates(routed["rate_book"]), routed["sent_today"])
        rate = None if again.rate is None else (f"{again.rate.amount:f}", again.rate.currency)
        # The routers of the rounds hold reservations for a shorter time.
        until = None if again.unit is None else rfc3339(now + RESERVATION_MS)
        expected = {
            "route": again.route,
            "rule": again.rule,
            "sentence": again.sentence,
            "fee_class": again.fee_class,
            "international": again.international,
            "resource": None if again.unit is None else again.unit.resource,
            "sender": None if again.unit is None else again.unit.sender,
            "reserved_until": until,
        }
        found = {field: routed[field] for field in expected}
        found_rate = None if routed["rate"] is None else (routed["rate"]["amount"], routed["rate"]["currency"])
        if (found, found_rate) != (expected, rate):
            yield f"message {name}: decided {found} at {found_rate}, and again {expected} at {rate}"


def _settings(version: dict[str, Any], number: int) -> RoutingSettings:
    guard = version["guard"]
    scheduling = version["scheduling"] or {"enabled": False, "countries": [], "use_own_numbers": False}
    return RoutingSettings(
        version=number,
        channel_type=version["channel_type"],
        scheduling_enabled=scheduling["enabled"],
        countries=frozenset(scheduling["countries"]),
        use_own_numbers=scheduling["use_own_numbers"],
        home_country=version["home_country"],
        spend_guard=SpendGuard(guard["mode"], None, guard["daily_messages_per_country"]) if guard else SpendGuard(),
    )


def handed_out_twice(log: Log, facts: Facts, resources: tuple[str, ...], *, clocks_agree: bool) -> list[str]:
    """13: reserved units never exceed what the reports leave.

    A decision cites the report that it saw (``as_of``). Of each report: the units that are held at once, of decisions
    since ``as_of``, never exceed its units; a late posting may, but then nothing more is handed out.
    """
    reports = _reports(log)
    violations = []
    for resource in resources:
        takes: dict[str, list[tuple[int, int, int, str]]] = defaultdict(list)
        for (_, _, name), message in facts.messages.items():
            routed = message.routed
            if routed is None or routed["resource"] != resource:
                continue
            seen = routed["pool"]["resources"][resource]
            decided_at = unix_milliseconds(routed["decided_at"])
            released, retaken = _released(message.of("ReservationSettled"))
            takes[seen["as_of"]].append((decided_at, released, retaken, name))
            if (resource, seen["as_of"]) not in reports:
                violations.append(f"message {name}: {resource} was reported at {seen['as_of']} by nobody")
        for as_of, of_report in takes.items():
            held_before = [one for every in takes.values() for one in every if one[0] >= unix_milliseconds(as_of)]
            units = reports.get((resource, as_of), 0)
            violations += list(_exceeding(resource, units, of_report, held_before, clocks_agree=clocks_agree))
    return violations


_NEVER = 2**62


def _released(ends: list[Notice]) -> tuple[int, int]:
    """When the unit was free again, and when a late posting took it again."""
    free = next((one.at for one in ends if one.data["ended"] in ("voided", "expired")), _NEVER)
    return free, next((one.at for one in ends if one.data["late"]), _NEVER)


def _exceeding(
    resource: str,
    units: int,
    takes: list[tuple[int, int, int, str]],
    since: list[tuple[int, int, int, str]],
    *,
    clocks_agree: bool,
) -> Iterator[str]:
    releases = sum(released != _NEVER for _, released, _, _ in since)
    if len(takes) > units + releases:
        yield f"{resource}: {len(takes)} units handed out of {units}, and {releases} given back"
    if not clocks_agree:
        return
    for decided_at, _, _, name in takes:
        held = sum(one[0] <= decided_at < one[1] or one[2] < decided_at for one in since)
        if held > units:
            yield f"{resource}: {held} of {units} units held with message {name}"


def _reports(log: Log) -> dict[tuple[str, str], int]:
    """(resource, as of) -> units; a report's moment counts at most as late as its record came."""
    found = {}
    for record in log.of(topics.SCHEDULING_RESOURCES):
        if record.value is not None:
            data = record.json["data"]
            as_of = min(unix_milliseconds(data["as_of"]), record.timestamp)
            found[data["resource"], rfc3339(as_of)] = data["units"]
    return found
