"""`gateway`: commands over HTTP, each with its answer, beside an endpoint that only puts its body through Kafka.

`gateway-reads`: a channel's settings, beside a route of the same gateway that only asks who calls.

Both with API keys and with tokens of an issuer, of two accounts: a gateway gives one account half of its places.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from statistics import median, quantiles
from typing import Any

import aiohttp

from services.gateway.authentication import api_keys
from services.gateway.authentication.roles import Scope
from services.infrastructure.config import Settings
from services.infrastructure.embedded.process import free_port
from services.infrastructure.postgres import migrate, pool_of
from tests.bench.load_driver import ACCOUNT, channel_name, load_driver, registrations
from tests.bench.report import Result, ratio_of, rounded_median
from tests.bench.testbed import Testbed
from tests.bench.topic_pairs import OUR_TOPICS, create_bare_topics
from tests.oidc_provider import OidcProvider, configured

_CONCURRENCY = 16
_ACCOUNTS = (ACCOUNT, "another")
"""Of the even channels, and of the odd ones."""


async def run(testbed: Testbed) -> list[Result]:
    count = testbed.scaled(2_000)
    servers, partitions = testbed.bootstrap_servers, testbed.partitions
    await create_bare_topics(servers, "bare", partitions)
    ports = {name: free_port() for name in ("gateway", "empty", "bare")}
    more = {"SWITCHBOARD_DATABASE_URL": testbed.dsn, "SWITCHBOARD_OIDC_FILE": str(testbed.directory / "oidc.yaml")}
    more |= {f"SWITCHBOARD_HTTP_REQUESTS_PER_{one}": "1000000" for one in ("KEY", "ACCOUNT")}
    with OidcProvider(testbed.directory) as provider:
        (testbed.directory / "oidc.yaml").write_text(json.dumps(configured(provider.issuer)))
        credentials = {
            "key": [await api_key(testbed, more, account) for account in _ACCOUNTS],
            "token": [await provider.token(one, groups=["tenants"], tenant=one) for one in _ACCOUNTS],
        }
        with (
            testbed.service("decider"),
            testbed.service("projector", **more),
            testbed.service("gateway", **more, SWITCHBOARD_HTTP_PORT=str(ports["gateway"])),
            testbed.script("empty_route", **more, SWITCHBOARD_HTTP_PORT=str(ports["empty"])),
            testbed.script("bare_loop", "send", servers, "bare", str(partitions)),
            testbed.script(
                "bare_server",
                "commands",
                servers,
                "bare.outcomes",
                str(partitions),
                str(ports["bare"]),
                "bare.commands",
            ),
        ):
            async with load_driver(servers, partitions) as driver:
                for first, account in enumerate(_ACCOUNTS):
                    await driver.seconds_to_process(OUR_TOPICS, registrations(range(first, count, 2), account))
            series = await _measure(ports, credentials, count)
    return [
        _result("gateway", "bare FastAPI endpoint through a bare Kafka loop", series, "command", "bare", count),
        _result("gateway-reads", "empty route that asks who calls", series, "read", "empty", count),
    ]


class Series:
    """The rates of rounds, in requests/s, and the seconds that each request took."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.seconds: list[float] = []

    def __str__(self) -> str:
        p50, p99 = median(self.seconds), quantiles(self.seconds, n=100)[98]
        return f"{rounded_median(self.rates):g}/s, p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms"


async def _measure(
    ports: dict[str, int], credentials: dict[str, list[str]], count: int
) -> dict[tuple[str, str], Series]:
    """(what is asked, with which credential) -> its series. The first of four rounds only warms up."""
    series: dict[tuple[str, str], Series] = {}
    async with aiohttp.ClientSession() as session:
        for turn in range(4):
            for credential, tokens in credentials.items():
                enabled = (turn % 2 == 0) == (credential == "key")
                for asked, port, request in (
                    ("empty", ports["empty"], {"method": "GET", "path": "empty"}),
                    ("read", ports["gateway"], {"method": "GET", "path": "channels/{}/settings"}),
                    ("command", ports["gateway"], {"method": "PUT", "path": "channels/{}/sms"}),
                    ("bare", ports["bare"], {"method": "PUT", "path": "channels/{}/sms"}),
                ):
                    body = {"json": {"enabled": enabled}} if request["method"] == "PUT" else {}
                    address = f"http://127.0.0.1:{port}/v1/{request['path']}"
                    rate, seconds = await _round(session, tokens, request["method"], address, count, **body)
                    if turn:
                        found = series.setdefault((asked, credential), Series())
                        found.rates.append(rate)
                        found.seconds += seconds
    return series


def _result(
    name: str, limit_is: str, series: dict[tuple[str, str], Series], asked: str, limit: str, count: int
) -> Result:
    ours, beside = series[asked, "key"].rates, series[limit, "key"].rates
    each = {f"{what} with a {by}": str(found) for (what, by), found in series.items() if what in (asked, limit)}
    each["ratio with a token"] = str(ratio_of(series[asked, "token"].rates, series[limit, "token"].rates))
    return Result(
        name,
        "requests/s",
        ours=rounded_median(ours),
        limit=rounded_median(beside),
        limit_is=limit_is,
        ratio=ratio_of(ours, beside),
        details={"requests a round": count, "at once": _CONCURRENCY, **each},
    )


async def api_key(testbed: Testbed, more: dict[str, str], account: str = ACCOUNT) -> str:
    pool = await pool_of(Settings.from_environment(testbed.environment() | more), size=1)
    try:
        await migrate(pool, "gateway", api_keys.MIGRATIONS)
        return await api_keys.create(pool, scope=Scope(account), label="bench")
    finally:
        await pool.close()


async def _round(
    session: aiohttp.ClientSession, tokens: list[str], method: str, address: str, count: int, **options: Any
) -> tuple[float, list[float]]:
    """Requests a second, each to a channel of its own, and the seconds of each."""
    seconds = []

    async def client(numbers: Iterable[int], token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        for number in numbers:
            begun = time.perf_counter()
            url = address.format(channel_name(number))
            async with session.request(method, url, headers=headers, **options) as response:
                if response.status != 200:
                    raise RuntimeError(f"{url} answered {response.status}: {await response.text()}")
                await response.read()
            seconds.append(time.perf_counter() - begun)

    started = time.perf_counter()
    shares = [(iter(range(first, count, len(tokens))), token) for first, token in enumerate(tokens)]
    await asyncio.gather(*(client(*shares[number % len(shares)]) for number in range(_CONCURRENCY)))
    return count / (time.perf_counter() - started), seconds
