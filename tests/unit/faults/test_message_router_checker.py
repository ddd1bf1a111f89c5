"""The checker of the message router's rounds: a sound log passes, and each damage to it is noticed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from contracts import topics
from contracts.ids import uuid8_of
from contracts.topics import Topic
from tests.faults.message_router.checker import Switches, check
from tests.faults.message_router.facts import facts_of
from tests.faults.message_router.log import Log, Record
from tests.faults.message_router.recheck import decided_otherwise, handed_out_twice

AT, REPORTED = "2026-11-26T08:00:00.000Z", "2026-11-26T07:59:00.000Z"
SECONDS = 1_795_680_000
NUMBER = "+919812345678"
SEEN = {"resources": {"pool": {"available": 1, "stale": False, "sender": "+15550100", "as_of": REPORTED}}}
ROUTED = {
    "message": "m1",
    "route": "scheduled",
    "rule": "ResourceAvailable",
    "sentence": "IN is chosen, and resource pool has a unit left, so the message is sent with OTP delivery scheduling.",
    "category": "authentication",
    "country": "IN",
    "country_source": "phone-number",
    "recipient_hash": "h",
    "resource": "pool",
    "sender": "+15550100",
    "fee_class": "scheduled",
    "rate": None,
    "international": False,
    "settings_version": 3,
    "rate_book": None,
    "reserved_until": "2026-11-26T08:00:03.000Z",
    "guard": None,
    "pool": SEEN,
    "sent_today": None,
    "decided_at": AT,
}
Parts = dict[str, list[dict[str, Any]]]


def _record(kind: str, record_id: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    envelope = {"specversion": "1.0", "id": record_id, "type": kind, "source": "tests", "subject": "ch"}
    return envelope | {"accountid": "acme", "data": data} | more


def _told(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return _record(kind, f"{kind} {data['message']}", data, time=AT)


def _sound() -> Parts:
    """One message with a fallback, failed and then delivered late enough for nothing; one that is posted."""
    fallback = {"to": NUMBER, "on": ["failed"], "wait_seconds": 60}
    request = {"recipient": NUMBER, "category": "authentication"}
    failed = ROUTED | {
        "message": "m2",
        "route": "failed",
        "rule": "NoResources",
        "sentence": "IN is chosen, but it has no scheduling resources, and Use Own Numbers is off, so the "
        "sending fails.",
        "resource": None,
        "sender": None,
        "fee_class": None,
        "reserved_until": None,
        "pool": {"resources": {}},
    }
    scheduling = {"enabled": True, "countries": ["IN"], "use_own_numbers": False}
    settings: list[tuple[str, dict[str, Any]]] = [
        ("ChannelRegistered", {"channel_type": "whatsapp"}),
        ("OtpSchedulingSaved", scheduling),
        ("SmsActivated", {}),
    ]
    report = {"resource": "pool", "country": "IN", "sender": "+15550100", "units": 1, "as_of": REPORTED}
    charge = {"message": "m1", "resource": "pool", "country": "IN", "amount": None}
    return {
        "events": [_record(kind, kind, data, sequence=place) for place, (kind, data) in enumerate(settings, start=1)],
        "scheduling-resources": [_record("ReportSchedulingResource", "r", report)],
        "message-requests": [
            _record("RouteMessage", "m1", request),
            _record("ReportStatus", "s1", {"message": "m1", "status": "sent", "via": "chat", "at": AT}),
            _record("RouteMessage", "m2", request | {"sms_fallback": fallback}),
        ],
        "message-decisions": [
            _told("MessageRouted", ROUTED),
            _told("ReservationSettled", {"message": "m1", "resource": "pool", "ended": "posted", "late": False}),
            _told("MessageRouted", failed),
            _told("SmsFallbackDue", {"message": "m2", "trigger": "failed", "settings_version": 3}),
        ],
        "usage": [_record("MessageCharged", uuid8_of("usage", "acme", "ch", "m1"), charge, time=AT)],
    }


def _violations(parts: Parts, switches: Switches | None = None) -> list[str]:
    log = Log()
    for name, records in parts.items():
        log.topics[f"switchboard.{name}"] = [
            Record(0, place, SECONDS * 1000 + 10_000, b"ch", json.dumps(one).encode(), {})
            for place, one in enumerate(records)
        ]
    facts = facts_of(log, "acme", ("ch",))
    found = check(log, facts, switches or Switches())
    return [*found, *decided_otherwise(log, facts), *handed_out_twice(log, facts, ("pool",), clocks_agree=True)]


def _again(topic: Topic, place: int, **changes: Any) -> Callable[[Parts], None]:
    """Appends a copy of a record, with other data."""

    def damage(parts: Parts) -> None:
        records = parts[topic.name.removeprefix("switchboard.")]
        one = copy.deepcopy(records[place])
        one["data"] |= changes
        records.append(one | ({"id": "another"} if changes else {}))

    return damage


def _lost(topic: Topic, place: int) -> Callable[[Parts], None]:
    return lambda parts: parts[topic.name.removeprefix("switchboard.")].__delitem__(place)


def _changed(topic: Topic, place: int, **changes: Any) -> Callable[[Parts], None]:
    return lambda parts: parts[topic.name.removeprefix("switchboard.")][place]["data"].update(changes)


def _drawn_anew(parts: Parts) -> None:
    parts["usage"][0]["id"] = "0"


def test_a_sound_log_has_no_violations() -> None:
    assert _violations(_sound()) == []


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_again(topics.MESSAGE_DECISIONS, 0), "is published 2 times"),
        (_again(topics.MESSAGE_DECISIONS, 0, rule="other"), "2 decisions of 1 requests"),
        (_lost(topics.MESSAGE_DECISIONS, 0), "0 decisions of 1 requests"),
        (_lost(topics.MESSAGE_DECISIONS, 1), "its reservation ended with []"),
        (_changed(topics.MESSAGE_DECISIONS, 1, ended="voided"), "its reservation ended with [('voided'"),
        (_again(topics.MESSAGE_DECISIONS, 1, ended="expired"), "its reservation ended with"),
        (_lost(topics.USAGE, 0), "0 charges, posted 1 times"),
        (_again(topics.USAGE, 0, late=True), "2 charges, posted 1 times"),
        (_drawn_anew, "its charge has the id 0"),
        (_lost(topics.MESSAGE_DECISIONS, 3), "neither fired nor said why not"),
        (_again(topics.MESSAGE_DECISIONS, 3, trigger="unread"), "2 fallbacks due"),
        (_changed(topics.MESSAGE_DECISIONS, 3, settings_version=2), "fired while SMS was off"),
        (_changed(topics.MESSAGE_DECISIONS, 0, sender="+15550199"), "and again"),
        (_changed(topics.MESSAGE_DECISIONS, 0, settings_version=1), "decided with the pool"),
        (_changed(topics.SCHEDULING_RESOURCES, 0, units=0), "1 units handed out of 0"),
    ],
)
def test_a_damage_is_noticed(damage: Callable[[Parts], None], sentence: str) -> None:
    parts = _sound()
    damage(parts)
    found = _violations(parts)
    assert any(sentence in one for one in found), found


def test_a_fallback_after_the_switch_is_noticed() -> None:
    off = Switches({"ch": [(SECONDS - 5, SECONDS + 5)]})
    assert any("s after SMS was switched off" in one for one in _violations(_sound(), off))
