"""The invariants 12, 14 and 15 of the message router, from the bytes of the topics.

Violations are sentences. The checker decides nothing itself; `recheck.py` decides again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from contracts import topics
from contracts.ids import uuid8_of
from contracts.message_routing import RouteMessage
from tests.faults.message_router.facts import Facts, Message, MessageKey, Notice
from tests.faults.message_router.log import Log

_PROOFS = ("sent", "delivered", "read")
_REPEATED = ("MessageIdReused",)
"""Refusals that each copy of a request gets."""
OFF_MARGIN_S = 1.0
"""A fallback that fires at the moment of the switch may be committed a little later."""


@dataclass(frozen=True, slots=True)
class Switches:
    """When SMS was off for certain on a channel, as (from, to) in Unix seconds; empty where clocks are not believed."""

    off: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def check(log: Log, facts: Facts, switches: Switches) -> list[str]:
    """What does not hold of the account's messages."""
    violations = [*_ids(facts), *_answers_to_the_unusable(log, facts)]
    events = settings_by_version(log)
    for key, message in facts.messages.items():
        name = f"message {key[2]} of {key[1]}"
        found = [*_decision(message), *_reservation(message), *_charge(key, message)]
        found += [*_fallback(key, message, events, switches), *_refused_statuses(message)]
        violations += [f"{name}: {violation}" for violation in found]
    return violations


def _ids(facts: Facts) -> Iterator[str]:
    """Nothing is published twice: 12, 14 and 15 for whoever reads without looking at ids."""
    notices = [one for message in facts.messages.values() for one in (*message.notices, *message.charges)]
    notices += [*facts.refusals_of_invalid, *facts.other]
    counted = Counter((one.id, one.type) for one in notices)
    yield from (f"{kind} {one} is published {count} times" for (one, kind), count in counted.items() if count > 1)


def _answers_to_the_unusable(log: Log, facts: Facts) -> Iterator[str]:
    places = {f"{one.partition}/{one.offset}" for one in facts.unreadable}
    letters = Counter(
        f"{one.headers['partition'].decode()}/{one.headers['offset'].decode()}"
        for one in log.of(topics.DEAD_LETTERS)
        if one.headers.get("topic") == topics.MESSAGE_REQUESTS.name.encode()
    )
    for place in places:
        if letters[place] != 1:
            yield f"the unreadable record {place} has {letters[place]} dead letters"
    if len(facts.refusals_of_invalid) != len(facts.invalid):
        yield f"{len(facts.refusals_of_invalid)} refusals of {len(facts.invalid)} invalid records"


def _content(request: RouteMessage) -> str:
    return request.model_dump_json(exclude_unset=True)


def _decision(message: Message) -> Iterator[str]:
    """12: one decision, about the first content; other contents are refused as reused."""
    refusals = [one for one in message.of("RoutingRefused") if one.data["reason"] not in _REPEATED]
    answers = [*message.of("MessageRouted"), *refusals]
    if len(answers) != bool(message.requests):
        yield f"{len(answers)} decisions of {len(message.requests)} requests"
        return
    if not message.requests:
        return
    first = message.requests[0][1]
    others = sum(_content(one) != _content(first) for _, one in message.requests)
    reused = len(message.of("RoutingRefused")) - len(refusals)
    if reused != others:
        yield f"{reused} refusals as reused, of {others} requests with another content"
    repeats = len(message.of("DecisionRepeated"))
    if repeats > len(message.requests) - others - 1:
        yield f"{repeats} repeats of {len(message.requests)} requests"
    routed = message.routed
    if routed is not None and routed["category"] != first.category:
        yield f"decided for {routed['category']}, asked for {first.category}"


def _reservation(message: Message) -> Iterator[str]:
    """13: a unit is posted, voided or expired once, and by what was reported."""
    ends = [(one.data["ended"], one.data["late"]) for one in message.of("ReservationSettled")]
    routed = message.routed
    if routed is None or routed["resource"] is None:
        if ends:
            yield f"no unit was reserved, but {ends}"
        return
    expired, posted, late = ("expired", False), ("posted", False), ("posted", True)
    allowed: dict[str, list[list[tuple[str, bool]]]] = {
        "none": [[expired]],
        "proof": [[posted], [expired, late]],
        "failed": [[("voided", False)], [expired]],
        "failed, proof": [[("voided", False)], [expired, late]],
    }
    told = [one.status for _, one in message.statuses if one.via == "chat"]
    proofs = [place for place, one in enumerate(told) if one in _PROOFS]
    failed = told.index("failed") if "failed" in told else len(told)
    cases = {"none"} if not told else set()
    if proofs and (proofs[0] < failed or message.moved):
        cases.add("proof")
    if failed < len(told) and (not proofs or failed < proofs[0] or message.moved):
        cases.add("failed, proof" if proofs else "failed")
    if ends not in [ended for case in cases for ended in allowed[case]]:
        yield f"its reservation ended with {ends} after {told}"


def _charge(key: MessageKey, message: Message) -> Iterator[str]:
    """14: one charge per posted message, none for others."""
    posted = [one for one in message.of("ReservationSettled") if one.data["ended"] == "posted"]
    if len(message.charges) != len(posted):
        yield f"{len(message.charges)} charges, posted {len(posted)} times"
    for charge in message.charges:
        expected = uuid8_of("usage", key[0], key[1], key[2])
        if charge.id != expected:
            yield f"its charge has the id {charge.id}, not {expected}"
        if message.routed is not None and charge.data["resource"] != message.routed["resource"]:
            yield f"charged for {charge.data['resource']}"


def _fallback(
    key: MessageKey, message: Message, events: dict[str, list[dict[str, Any]]], switches: Switches
) -> Iterator[str]:
    """15: at most one, never while SMS is off; or it says why there is none."""
    due, withheld = message.of("SmsFallbackDue"), message.of("SmsFallbackWithheld")
    asked = message.requests[0][1].sms_fallback if message.requests and message.routed is not None else None
    if len(due) + len(withheld) > (asked is not None):
        yield f"{len(due)} fallbacks due and {len(withheld)} withheld"
    # Without a wait, it stays armed until an explicit failure comes.
    if asked is not None and asked.wait_seconds is not None and not due and not withheld:
        yield "its fallback neither fired nor said why not"
    for one in due:
        version = one.data["settings_version"]
        if not events[key[1]][version]["sms"]:
            yield f"its fallback fired while SMS was off, in version {version} of the settings"
        for begin, end in switches.off.get(key[1], ()):
            if begin + OFF_MARGIN_S < one.at / 1000 < end:
                yield f"its fallback fired {one.at / 1000 - begin:.1f} s after SMS was switched off"
    risks = message.of("DoubleChargeRisk")
    if len(risks) > len(due):
        yield f"{len(risks)} risks of a double charge"


def _refused_statuses(message: Message) -> Iterator[str]:
    refused = {one.data["reason"] for one in message.of("RoutingRefused")} - set(_REPEATED)
    answered = message.of("StatusRefused")
    if refused and message.statuses and not answered:
        yield "its statuses were lost with its refusal"
    if not refused and answered:
        yield "a status was refused although the message was routed"


def settings_by_version(log: Log) -> dict[str, list[dict[str, Any]]]:
    """What each version of each channel says, by an own fold; version 0 is None of anything."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(lambda: [{"sms": False, "scheduling": None, "guard": None}])
    for record in log.of(topics.EVENTS):
        event = record.json
        versions, data = found[event["subject"]], event["data"]
        now = dict(versions[-1])
        match event["type"]:
            case "ChannelRegistered":
                now |= {"channel_type": data["channel_type"], "home_country": data.get("home_country")}
            case "OtpSchedulingSaved":
                now["scheduling"] = data
            case "SpendGuardSaved":
                now["guard"] = data
            case "SmsActivated" | "SmsDeactivated":
                now["sms"] = event["type"] == "SmsActivated"
        assert event["sequence"] == len(versions)
        versions.append(now)
    return found


def rollup_violations(charges: list[Notice], rows: list[Any]) -> list[str]:
    """14: the rollup of an account is the fold of its charges. ``rows`` are those of the table."""
    fold: dict[tuple[str, ...], list[Any]] = defaultdict(lambda: [0, Decimal(0)])
    for charge in charges:
        data = charge.data
        key = data["booked_on"], charge.record.json["subject"], data["country"], data["currency"] or ""
        fold[key][0] += 1
        fold[key][1] += Decimal(data["amount"] or 0)
    table: dict[tuple[str, ...], list[Any]] = defaultdict(lambda: [0, Decimal(0)])
    for row in rows:
        key = row["day"].isoformat(), row["channel"], row["country"], row["currency"]
        table[key][0] += row["messages"]
        table[key][1] += row["amount"]
    return [] if fold == table else [f"the rollup is {dict(table)}, the fold of the charges {dict(fold)}"]
