"""What a round sends: settings, reports of pools, requests and statuses, in an order and at times that a seed gives.

Requests come twice, with other content, on the wrong partition, unreadable; statuses come before their decision, twice,
out of order, after the reservation's end, and for messages that nobody routed.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from contracts import topics
from contracts.ids import new_id
from contracts.message import rfc3339
from contracts.partitioner import partition_of
from tests.faults.message_router.process import RESERVATION_MS
from tests.installation import fresh

COUNTRIES = tuple(
    "AE AR AT BD BE BG BO BR BY CH CL CN CO CR CZ DE DK DO EC EE EG ES ET GH GR GT HK HN HR HU ID IE IL IN IQ IS JO JP "
    "KE KH KR KW LB LK LT LU LV MA MX MY NG NL NO NP NZ OM PA PE PH PK PL PT PY QA RO RS SA SE SG SI SK TH TN TR TW TZ "
    "UA UG UY UZ VE VN ZA ZM".split()
)
STATUSES = ("sent", "delivered", "read", "failed")
SENDER = "+15550100"
_LASTS_S = 5.0
"""How long a round's traffic takes, without what comes late."""

_BURST_AT_S = 2.0
CONTENTIONS_AT_S = (0.5, 2.5, 4.5, 6.5, 7.5)
_CONTENDERS = 4
_AUTHENTICATED = {"enterprise_authenticated": True}


@dataclass(frozen=True, slots=True)
class Sent:
    """A record to be sent ``at_s`` seconds after the round's begin."""

    at_s: float
    topic: str
    partition: int
    key: bytes
    value: bytes | None


@dataclass(slots=True)
class Plan:
    """The traffic of a round. ``numbers`` are all recipients' numbers, which must be found nowhere else.

    The last of the channels, ``contenders``, want units of the last of the resources, that of the country ``scarce``.
    """

    account: str
    channels: tuple[str, ...]
    countries: tuple[str, str]
    resources: tuple[str, ...]
    scarce: str
    contenders: tuple[str, ...]
    records: list[Sent] = field(default_factory=list)
    numbers: set[str] = field(default_factory=set)
    switch_off_at_s: float = 0.0


def example_number(country: str, rng: random.Random) -> str:
    """A mobile number of the country that is not the library's own example, as far as there is another."""
    example: Any = phonenumbers.example_number_for_type(country, PhoneNumberType.MOBILE)
    text = phonenumbers.format_number(example, PhoneNumberFormat.E164)
    for _ in range(200):
        other = text[:-4] + f"{rng.randrange(10_000):04}"
        if phonenumbers.region_code_for_number(phonenumbers.parse(other)) == country:
            return other
    return text


class Traffic:
    """Builds a plan. ``versions`` are the channels' versions after their settings."""

    def __init__(self, rng: random.Random, partitions: int, number: int) -> None:
        self._rng, self._partitions = rng, partitions
        one, two, scarce = (COUNTRIES[(3 * number + index) % len(COUNTRIES)] for index in range(3))
        contenders = self._on_different_partitions(_CONTENDERS)
        self.plan = Plan(
            fresh("acct"),
            (*(fresh(f"ch{index}") for index in range(4)), *contenders),
            (one, two),
            tuple(fresh(f"pool-{country}") for country in (one, one, two, scarce)),
            scarce,
            contenders,
        )

    def _on_different_partitions(self, count: int) -> tuple[str, ...]:
        """New channels whose requests are decided in different transactions, as far as there are partitions."""
        found: dict[int, str] = {}
        while len(found) < min(count, self._partitions):
            channel = fresh("scarce")
            found.setdefault(partition_of(channel, self._partitions), channel)
        return tuple(found.values())

    def settings(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """(channel, command, data): three channels of whatsapp and one of viber; SMS off on one, guards on two."""
        for channel in self.plan.contenders:
            yield channel, "RegisterChannel", {"channel_type": "whatsapp", "name": "Shop"} | _AUTHENTICATED
            yield channel, "SaveOtpScheduling", _scheduling([self.plan.scarce], use_own_numbers=True)
        for index, channel in enumerate(self.plan.channels[:4]):
            form = {"channel_type": "viber" if index == 3 else "whatsapp", "name": "Shop"}
            yield channel, "RegisterChannel", form | _AUTHENTICATED | {"home_country": "AE"}
            countries = list(self.plan.countries) if index != 1 else [self.plan.countries[0]]
            if index != 3:
                yield channel, "SaveOtpScheduling", _scheduling(countries, use_own_numbers=index % 2 == 1)
            if index < 2:
                guard = {"mode": ("enforce", "monitor")[index], "daily_messages_per_country": 8}
                yield channel, "SaveSpendGuard", guard
            if index != 2:
                yield channel, "ToggleSms", {"enabled": True}

    def build(self, versions: dict[str, int], messages: int, contentions: Sequence[float]) -> Plan:
        self._reports()
        for moment in contentions:
            self._contention(moment)
        for _ in range(messages):
            self._message(versions)
        for _ in range(6):
            self._odd()
        self.plan.switch_off_at_s = self._rng.uniform(1, 3)
        self.plan.records.sort(key=lambda record: record.at_s)
        return self.plan

    def _reports(self) -> None:
        rng = self._rng
        for resource, country in zip(
            self.plan.resources[:3], (*self.plan.countries[:1] * 2, self.plan.countries[1]), strict=True
        ):
            self._report(0, resource, country, rng.randint(3, 12), 0)
            for _ in range(rng.randint(1, 4)):
                self._report(rng.uniform(0, _LASTS_S), resource, country, rng.randint(0, 12), rng.choice((0, 0, 2, 30)))
        if rng.random() < 0.5:
            gone = self.plan.resources[1].encode()
            self._add(rng.uniform(1, _LASTS_S), topics.SCHEDULING_RESOURCES.name, gone, None)

    def _report(self, at_s: float, resource: str, country: str, units: int, old_s: int) -> None:
        """``as_of`` is filled in when it is sent, ``old_s`` before then: so long the report was under way."""
        data = {"resource": resource, "country": country, "sender": SENDER, "units": units}
        data |= {"as_of": f"-{old_s}", "valid_seconds": self._rng.choice((2, 600, 600, 600))}
        value = self._envelope("ReportSchedulingResource", new_id(), resource, data)
        self._add(at_s, topics.SCHEDULING_RESOURCES.name, resource.encode(), value)

    def _contention(self, at_s: float) -> None:
        """A report of few units, and then more requests for them at one moment than there are, of every contender.

        Most are posted, so that their units do not come back.
        """
        rng, plan = self._rng, self.plan
        self._report(at_s - 0.3, plan.resources[-1], plan.scarce, rng.randint(1, 3), 0)
        for channel in plan.contenders:
            for _ in range(3):
                name, number = fresh("m"), example_number(plan.scarce, rng)
                plan.numbers.add(number)
                data = {"recipient": number, "category": "authentication"}
                value = self._envelope("RouteMessage", name, channel, data)
                self._add(at_s, topics.MESSAGE_REQUESTS.name, channel.encode(), value)
                if rng.random() < 0.9:
                    self._status(at_s + 0.5, channel, name, "sent", "chat")

    def _message(self, versions: dict[str, int]) -> None:
        rng, plan = self._rng, self.plan
        channel, name = rng.choice(plan.channels[:4]), fresh("m")
        country = rng.choice((plan.countries[0], plan.countries[0], plan.countries[1], "FR", None))
        number = "user:" + fresh("u") if country is None else example_number(country, rng)
        if country is not None:
            plan.numbers.add(number)
        data: dict[str, Any] = {"recipient": number, "category": rng.choice(("authentication",) * 5 + ("marketing",))}
        if rng.random() < (0.7 if channel == plan.channels[0] else 0.3):
            to = example_number("FR", rng)
            plan.numbers.add(to)
            on = rng.sample(("failed", "undelivered", "unread"), rng.randint(1, 3))
            data["sms_fallback"] = {"to": to, "on": on} | ({"wait_seconds": 60} if rng.random() < 0.8 else {})
        if rng.random() < 0.2:
            data["settings_version"] = rng.choice((versions[channel], versions[channel], versions[channel] + 1, 10**6))
        at_s = _BURST_AT_S if rng.random() < 0.4 else rng.uniform(0, _LASTS_S)
        value = self._envelope("RouteMessage", name, channel, data)
        copies = rng.choice((1, 1, 2, 3))
        partition = rng.randrange(self._partitions) if rng.random() < 0.1 else None
        for copy in range(copies):
            self._add(at_s + copy * rng.random() * 2, topics.MESSAGE_REQUESTS.name, channel.encode(), value, partition)
        if rng.random() < 0.1 and partition is None:
            other = example_number("FR", rng)
            plan.numbers.add(other)
            reused = self._envelope("RouteMessage", name, channel, data | {"recipient": other})
            self._add(at_s + rng.uniform(-0.5, 1), topics.MESSAGE_REQUESTS.name, channel.encode(), reused)
        self._statuses(channel, name, at_s)

    def _statuses(self, channel: str, name: str, at_s: float) -> None:
        rng = self._rng
        chosen = rng.sample(STATUSES, rng.randint(0, 3))
        if rng.random() < 0.6 and "failed" not in chosen:
            chosen.sort(key=STATUSES.index)
        late = RESERVATION_MS / 1000 + 0.5 if rng.random() < 0.15 else rng.choice((-0.5, 0.1, 0.5, 1.5))
        for place, status in enumerate(chosen):
            for _ in range(rng.choice((1, 1, 2))):
                self._status(at_s + late + place * 0.1, channel, name, status, "sms" if rng.random() < 0.05 else "chat")

    def _status(self, at_s: float, channel: str, name: str, status: str, via: str, account: str = "") -> None:
        data = {"message": name, "status": status, "via": via, "at": rfc3339(_now_ms())}
        if status == "failed":
            number = self._rng.choice(sorted(self.plan.numbers)) if self.plan.numbers else "?"
            data["error"] = f"131026: {number} is not reachable"
        value = self._envelope("ReportStatus", new_id(), channel, data, account)
        self._add(max(0, at_s), topics.MESSAGE_REQUESTS.name, channel.encode(), value)

    def _odd(self) -> None:
        """Statuses of nobody's messages, of another account, and records that are none."""
        rng, channel = self._rng, self._rng.choice(self.plan.channels)
        self._status(rng.uniform(0, _LASTS_S), channel, fresh("ghost"), rng.choice(STATUSES), "chat")
        self._status(rng.uniform(0, _LASTS_S), channel, fresh("m"), "sent", "chat", fresh("other"))
        number = example_number("FR", rng)
        self.plan.numbers.add(number)
        request = {"recipient": number, "category": "authentication"}
        whole = self._envelope("RouteMessage", fresh("m"), channel, request)
        unknown = self._envelope("RouteMessage", fresh("m"), fresh("nowhere"), request)
        invalid = self._envelope("RouteMessage", fresh("m"), channel, request | {number: 1})
        for value in (whole[: -rng.randint(1, 9)], unknown, invalid):
            self._add(rng.uniform(0, _LASTS_S), topics.MESSAGE_REQUESTS.name, channel.encode(), value)

    def _envelope(self, kind: str, command_id: str, subject: str, data: dict[str, Any], account: str = "") -> bytes:
        envelope = {"specversion": "1.0", "id": command_id, "type": kind, "source": "faults", "subject": subject}
        return json.dumps(envelope | {"accountid": account or self.plan.account, "data": data}).encode()

    def _add(self, at_s: float, topic: str, key: bytes, value: bytes | None, partition: int | None = None) -> None:
        home = partition_of(key.decode(), self._partitions) if partition is None else partition
        self.plan.records.append(Sent(at_s, topic, home, key, value))


def _scheduling(countries: list[str], *, use_own_numbers: bool) -> dict[str, Any]:
    return {
        "enabled": True,
        "countries": countries,
        "use_own_numbers": use_own_numbers,
        "international_rates_acknowledged": True,
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def filled_in(record: Sent) -> bytes | None:
    """The record's value; a report's ``as_of`` becomes a moment."""
    if record.topic != topics.SCHEDULING_RESOURCES.name or record.value is None:
        return record.value
    envelope = json.loads(record.value)
    envelope["data"]["as_of"] = rfc3339(_now_ms() + 1000 * int(envelope["data"]["as_of"]))
    return json.dumps(envelope).encode()


def rate_book(version: int, countries: Sequence[str]) -> dict[str, Any]:
    """The same amounts in every book but for the last digits, which are the version's."""
    rates = [
        {
            "country": country,
            "fee_class": fee,
            "currency": "AED",
            "amount": f"0.{base}{version % 100:02}",
            "from": "2026-01-01",
        }
        for country in countries
        for fee, base in (("scheduled", "010"), ("authentication", "013"), ("marketing", "020"))
    ]
    return {"version": version, "rates": rates}
