"""`console`: from a change to the pixels of a console, while 100 are open, and the first view of 10,000 channels.

Beside it, a bare page with a bare feed in the same Chromium."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from statistics import median, quantiles

import aiohttp
from playwright.async_api import Browser, Page, async_playwright

from services.infrastructure.embedded.process import free_port
from tests.bench.gateway import api_key
from tests.bench.load_driver import channel_name, load_driver, registrations
from tests.bench.report import Result, rounded_median
from tests.bench.sse_readers import audience
from tests.bench.testbed import Testbed
from tests.bench.topic_pairs import OUR_TOPICS
from tests.e2e.browser import chromium_path

_CHANNELS = 10_000
_CONSOLES = 100
_CHANGES = 200
_VIEWS = 30
_WATCH = """
() => {
  let shown = document.querySelector("#sms-switch").getAttribute("aria-checked");
  new MutationObserver(() => {
    const now = document.querySelector("#sms-switch")?.getAttribute("aria-checked");
    if (!now || now === shown) return;
    shown = now;
    requestAnimationFrame(() => setTimeout(() => window.painted(now)));
  }).observe(document, { subtree: true, childList: true, attributes: true });
}
"""
_WEIGHT = """
() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .reduce((sum, one) => sum + one.transferSize, 0)
"""


@dataclass(frozen=True, slots=True)
class Contestant:
    """``cookie`` is what its pages are asked with; ``token`` what its changes are sent with."""

    port: int
    list_view: str
    channel_view: str
    feed: str
    change: str
    token: str = ""
    cookie: str = ""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


async def run(testbed: Testbed) -> list[Result]:
    ours_port, bare_port = free_port(), free_port()
    more = {"SWITCHBOARD_DATABASE_URL": testbed.dsn, "SWITCHBOARD_HTTP_PORT": str(ours_port)}
    more |= {f"SWITCHBOARD_HTTP_REQUESTS_PER_{one}": "1000000" for one in ("KEY", "ACCOUNT")}
    channels = testbed.scaled(_CHANNELS)
    with (
        testbed.service("decider"),
        testbed.service("projector", **more),
        testbed.service("gateway", **more),
        testbed.script("bare_page", str(bare_port)),
    ):
        async with load_driver(testbed.bootstrap_servers, testbed.partitions) as driver:
            await driver.seconds_to_process(OUR_TOPICS, registrations(range(channels)))
        token = await api_key(testbed, more)
        page = f"/console/channels/{channel_name(0)}/service-settings"
        change = f"/v1/channels/{channel_name(0)}/sms"
        cookie = await _log_on(ours_port, token)
        contestants = {
            "ours": Contestant(ours_port, "/console/channels", page, "/console/events", change, token, cookie),
            "bare": Contestant(bare_port, "/page", "/page", "/changes", "/sms"),
        }
        await _until_shown(contestants["ours"], channel_name(channels - 1))
        async with async_playwright() as playwright:
            options = ["--no-sandbox", "--disable-gpu"]
            browser = await playwright.chromium.launch(executable_path=chromium_path(), args=options)
            views = {name: await _first_views(browser, one, testbed) for name, one in contestants.items()}
            delays = {name: await _delays(browser, one, testbed) for name, one in contestants.items()}
            await browser.close()
    return [_result(channels, testbed.scaled(_CONSOLES - 1, 2) + 1, views, delays)]


def _result(
    channels: int, consoles: int, views: dict[str, tuple[list[float], int]], delays: dict[str, list[float]]
) -> Result:
    p99 = {name: quantiles(found, n=100, method="inclusive")[98] for name, found in delays.items()}
    return Result(
        "console",
        "ms from a change to pixels, p99",
        ours=rounded_median([p99["ours"]]),
        limit=rounded_median([p99["bare"]]),
        limit_is="bare page with a bare feed, without Kafka and Postgres",
        ratio=rounded_median([p99["bare"] / p99["ours"]]),
        details={
            "consoles open": consoles,
            "median, ms": {name: rounded_median(found) for name, found in delays.items()},
            f"first view of {channels:,} channels, ms until loaded, nothing cached": {
                name: {"median": rounded_median(times), "most": rounded_median([max(times)])}
                for name, (times, _) in views.items()
            },
            "first view, bytes over the wire": {name: weight for name, (_, weight) in views.items()},
        },
    )


async def _log_on(port: int, token: str) -> str:
    origin = f"http://127.0.0.1:{port}"
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.post(
            f"{origin}/console/log-on", data={"api_key": token}, headers={"Origin": origin}, allow_redirects=False
        ) as response,
    ):
        return response.cookies["switchboard-session"].value


async def _until_shown(contestant: Contestant, channel: str) -> None:
    headers = {"Authorization": f"Bearer {contestant.token}"}
    async with asyncio.timeout(300), aiohttp.ClientSession(headers=headers) as session:
        while True:
            async with session.get(contestant.url(f"/v1/channels/{channel}/settings")) as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.1)


async def _opened(browser: Browser, contestant: Contestant, path: str) -> Page:
    """A page of a browser that has nothing cached."""
    context = await browser.new_context()
    if contestant.cookie:
        await context.add_cookies(
            [{"name": "switchboard-session", "value": contestant.cookie, "url": contestant.url("/")}]
        )
    page = await context.new_page()
    await page.goto(contestant.url(path), wait_until="load")
    return page


async def _first_views(browser: Browser, contestant: Contestant, testbed: Testbed) -> tuple[list[float], int]:
    """Milliseconds until loaded, and the bytes over the wire."""
    times, weights = [], []
    for _ in range(testbed.scaled(_VIEWS, 3)):
        page = await _opened(browser, contestant, contestant.list_view)
        times.append(float(await page.evaluate('performance.getEntriesByType("navigation")[0].loadEventEnd')))
        weights.append(int(await page.evaluate(_WEIGHT)))
        await page.context.close()
    return times, round(median(weights))


async def _delays(browser: Browser, contestant: Contestant, testbed: Testbed) -> list[float]:
    """Milliseconds from when each change is sent until the page has painted it, while all the others listen too."""
    cookie = f"Cookie: switchboard-session={contestant.cookie}"
    async with (
        audience(contestant.port, testbed.scaled(_CONSOLES - 1, 2), contestant.feed, cookie),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {contestant.token}"}) as session,
    ):
        page = await _opened(browser, contestant, contestant.channel_view)
        await page.wait_for_selector("html[data-live]", state="attached")
        painted: asyncio.Queue[tuple[str, float]] = asyncio.Queue()
        await page.expose_function("painted", lambda shown: painted.put_nowait((shown, time.perf_counter())))
        await page.evaluate(_WATCH)
        found = []
        for turn in range(testbed.scaled(_CHANGES, 4)):
            enabled = turn % 2 == 0
            started = time.perf_counter()
            async with session.put(contestant.url(contestant.change), json={"enabled": enabled}) as response:
                response.raise_for_status()
            async with asyncio.timeout(30):
                shown, at = await painted.get()
            if shown != str(enabled).lower():
                raise RuntimeError(f"the page shows {shown}")
            found.append(1_000 * (at - started))
        await page.context.close()
    return found
