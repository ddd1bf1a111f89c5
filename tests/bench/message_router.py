"""`message-router`: decisions a second from requests on Kafka to decisions on Kafka, beside a bare loop of that shape.

Also the latency at a hundred requests a second, the rate with few and with a million messages kept, and how late
timers are while requests wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import count
from statistics import quantiles
from typing import Any

import asyncpg

from contracts import topics
from contracts.message import rfc3339
from services.infrastructure.embedded.process import free_port
from tests.bench.load_driver import LoadDriver, TopicPair, channel_name, command, load_driver
from tests.bench.report import Result, ratio_of, rounded_median
from tests.bench.testbed import Contestant, Testbed
from tests.bench.topic_pairs import OUR_TOPICS, create_bare_topics

CHANNELS = 200
_RECIPIENTS = ("+919812345678", "+6281234567890", "+33612345678")
"""Of a country with units, one that is chosen and has none, and one that is not chosen."""
_REQUESTS = TopicPair(topics.MESSAGE_REQUESTS.name, topics.MESSAGE_DECISIONS.name)
_POOL = TopicPair(topics.SCHEDULING_RESOURCES.name, topics.MESSAGE_DECISIONS.name)
_PER_S = 100
_KEPT = {"a thousand": 1_000, "a million": 1_000_000}
_TIMERS = 2_000
_TIMERS_LAST_S = 5

_FILL = """
    WITH models AS MATERIALIZED (
        SELECT *, row_number() OVER () - 1 AS place FROM message_router.messages
        WHERE resource IS NOT NULL AND message NOT LIKE 'kept-%' LIMIT 50)
    INSERT INTO message_router.messages (channel, account, message, partition, digest, correlation_id, state,
        requested_at, category, country, country_source, recipient_hash, decided_at, settings_version, decision,
        resource, reservation, seen)
    SELECT channel, account, 'kept-' || number, partition, digest, correlation_id, state, requested_at - number,
        category, country, country_source, recipient_hash, decided_at - 86400000 - number, settings_version, decision,
        resource, 'posted', '{chat/sent}'
    FROM generate_series($1::int, $2::int) AS number JOIN models ON place = number % 50
"""
_SETTLE = "UPDATE message_router.messages SET reservation = 'posted', next_timer = NULL WHERE next_timer IS NOT NULL"
_SET_TIMERS = """
    UPDATE message_router.messages SET reserved_until = due, next_timer = due, reservation = 'reserved'
    FROM (SELECT channel, account, message, $1::bigint + (row_number() OVER ()) * $2::bigint / $3::bigint AS due
        FROM (SELECT * FROM message_router.messages WHERE resource IS NOT NULL AND message NOT LIKE 'kept-%'
            LIMIT $3) AS chosen) AS timers
    WHERE (messages.channel, messages.account, messages.message) = (timers.channel, timers.account, timers.message)
"""
_LATENESS = """
    SELECT n.told_at - m.reserved_until FROM message_router.notices n
    JOIN message_router.messages m USING (channel, account, message)
    WHERE n.type = 'ReservationSettled' AND n.told_at >= $1 ORDER BY 1
"""


async def run(testbed: Testbed) -> list[Result]:
    number, turns = testbed.scaled(10_000), count()
    more = {"SWITCHBOARD_DATABASE_URL": testbed.dsn, "SWITCHBOARD_HTTP_PORT": str(free_port())}
    servers, partitions = testbed.bootstrap_servers, testbed.partitions
    pairs = {"ours": _REQUESTS, "bare": await create_bare_topics(servers, "bare", partitions)}
    with (
        testbed.service("decider", **more),
        testbed.service("message-router", **more) as router,
        testbed.script("bare_loop", "send", servers, "bare", str(partitions), "outcomes") as bare,
    ):
        async with load_driver(servers, partitions) as driver:
            await driver.seconds_to_process(OUR_TOPICS, _settings())
            await _report_pool(driver, testbed.dsn)
            processes = {"ours": router, "bare": bare}
            rates, spent = await _waiting(testbed, driver, pairs, processes, number, turns)
            latency = await _latency(testbed, driver, pairs, turns)
            kept = await _kept(testbed, driver, router, number, turns)
            lateness = await _timers(testbed, driver, number, turns)
        resident = router.resident_bytes()
    return [
        Result(
            "message-router",
            "decisions/s",
            ours=rounded_median(rates["ours"]),
            limit=rounded_median(rates["bare"]),
            limit_is="bare aiokafka loop with send, one record a request, deciding nothing",
            ratio=ratio_of(rates["ours"], rates["bare"]),
            details={
                "requests a turn": number,
                "rounds": {name: [round(rate) for rate in found] for name, found in rates.items()},
                "processor µs a decision": {name: rounded_median(found) for name, found in spent.items()},
                f"latency at {_PER_S}/s, ms": latency,
                "messages kept": kept,
                "timers under load, ms late": lateness,
                "resident MB": round(resident / 1e6),
            },
        )
    ]


def _settings() -> Iterator[tuple[str, bytes]]:
    for number in range(CHANNELS):
        form = {"channel_type": "whatsapp", "name": f"Shop {number}", "enterprise_authenticated": True}
        yield command("RegisterChannel", channel_name(number), form)
        scheduling = {"enabled": True, "countries": ["IN", "ID"], "use_own_numbers": True}
        scheduling |= {"international_rates_acknowledged": True}
        yield command("SaveOtpScheduling", channel_name(number), scheduling)


def _requests(number: int, turn: int) -> Iterator[tuple[str, bytes]]:
    for one in range(number):
        recipient = _RECIPIENTS[(one + turn) % len(_RECIPIENTS)]
        yield command(
            "RouteMessage", channel_name(one % CHANNELS), {"recipient": recipient, "category": "authentication"}
        )


async def _report_pool(driver: LoadDriver, dsn: str) -> None:
    """Reports one resource, and waits until the router knows it and every channel."""
    now = rfc3339(time.time_ns() // 1_000_000)
    report = {"resource": "pool", "country": "IN", "sender": "+911234567890", "units": 10**9}
    await driver.write_all(
        _POOL.commands, [command("ReportSchedulingResource", "pool", report | {"as_of": now, "valid_seconds": 86_400})]
    )
    async with asyncio.timeout(60):
        while True:
            [known] = await _rows(dsn, "SELECT count(*) AS n FROM message_router.channels WHERE version = 2")
            if known["n"] == CHANNELS and await _rows(dsn, "SELECT FROM message_router.resources"):
                return
            await asyncio.sleep(0.2)


async def _rows(dsn: str, query: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()


async def _waiting(
    testbed: Testbed,
    driver: LoadDriver,
    pairs: dict[str, TopicPair],
    processes: dict[str, Contestant],
    number: int,
    turns: Iterator[int],
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Decisions a second with all requests waiting, and microseconds of processor; the first turn warms up."""
    rates: dict[str, list[float]] = {name: [] for name in pairs}
    spent: dict[str, list[float]] = {name: [] for name in pairs}
    for turn in range(testbed.rounds + 1):
        for name, pair in pairs.items():
            before = processes[name].processor_s()
            seconds = await driver.seconds_to_process(pair, _requests(number, next(turns)))
            rates[name] += [number / seconds] * (turn > 0)
            spent[name] += [(processes[name].processor_s() - before) / number * 1e6] * (turn > 0)
        testbed.log(
            f"turn {turn}: " + ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items() if found)
        )
        await _rows(testbed.dsn, _SETTLE)  # their timers would tell of their end in ten minutes
    return rates, spent


async def _latency(
    testbed: Testbed, driver: LoadDriver, pairs: dict[str, TopicPair], turns: Iterator[int]
) -> dict[str, Any]:
    """From publish to decision, at a steady rate."""
    number = testbed.scaled(1_500, least=30)
    taken: dict[str, list[list[float]]] = {name: [] for name in pairs}
    for turn in range(testbed.rounds + 1):
        for name, pair in pairs.items():
            requests = list(_requests(number, next(turns)))
            latencies = await driver.closed_loop(pair, requests, number, 1 / _PER_S)
            if turn:
                taken[name].append([1000 * seconds for seconds in latencies])
        await _rows(testbed.dsn, _SETTLE)
    found: dict[str, Any] = {}
    for percent in (50, 99):
        by_name = {name: [_percentile(turn, percent) for turn in turns_] for name, turns_ in taken.items()}
        found[f"p{percent}"] = {name: rounded_median(values) for name, values in by_name.items()}
        found[f"p{percent}, times the bare loop"] = ratio_of(by_name["ours"], by_name["bare"])
    return found


async def _kept(
    testbed: Testbed, driver: LoadDriver, router: Contestant, number: int, turns: Iterator[int]
) -> dict[str, Any]:
    """Decisions a second, and microseconds of processor each, with so many messages kept."""
    found: dict[str, Any] = {}
    filled = 0
    for name, full in _KEPT.items():
        wanted = testbed.scaled(full)
        await _rows(testbed.dsn, _FILL, filled + 1, wanted)
        await _rows(testbed.dsn, "VACUUM ANALYZE message_router.messages")
        filled = wanted
        rates, spent = [], []
        for turn in range(4):
            before = router.processor_s()
            seconds = await driver.seconds_to_process(_REQUESTS, _requests(number, next(turns)))
            rates += [number / seconds] * (turn > 0)
            spent += [(router.processor_s() - before) / number * 1e6] * (turn > 0)
            await _rows(testbed.dsn, _SETTLE)
        found[f"{name} ({wanted:,})"] = {"decisions/s": rounded_median(rates), "processor µs": rounded_median(spent)}
        testbed.log(f"{wanted:,} kept: {rounded_median(rates):,.0f}/s")
    return found


async def _timers(testbed: Testbed, driver: LoadDriver, number: int, turns: Iterator[int]) -> dict[str, Any]:
    """How late reservations expire that end during some seconds in which requests wait all the time."""
    timers = testbed.scaled(_TIMERS)
    begin = time.time_ns() // 1_000_000 + 1_000
    await _rows(testbed.dsn, _SET_TIMERS, begin, _TIMERS_LAST_S * 1000, timers)
    while time.time_ns() // 1_000_000 < begin + _TIMERS_LAST_S * 1000 + 2_000:
        await driver.seconds_to_process(_REQUESTS, _requests(number, next(turns)))
    late = [row[0] for row in await _rows(testbed.dsn, _LATENESS, begin)]
    return {"timers": len(late), "median": late[len(late) // 2], "most": late[-1]} if late else {"timers": 0}


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]
