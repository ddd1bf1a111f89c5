"""The console in a real browser, on a running Switchboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from contracts.business_system import OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.intent import AddIntent
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.sms import ToggleSms
from tests.installation import Installation, fresh, run_apart

expect.set_options(timeout=30_000)  # milliseconds; a browser beside other tests may be slow

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser.new_page(locale="en-GB")
        browser.close()


def _shop(installation: Installation, account: str) -> str:
    """A WhatsApp channel with everything set, and a Telegram one; returns the first."""
    whatsapp, telegram = fresh("console-a"), fresh("console-b")

    async def make() -> None:
        async with installation.publisher(account) as publisher:
            for channel, kind in ((whatsapp, "whatsapp"), (telegram, "telegram")):
                register = RegisterChannel.model_validate(
                    {"channel_type": kind, "name": f"Shop on {kind}", "enterprise_authenticated": True}
                )
                assert (await publisher.send(register, channel=channel)).accepted
            for command in (
                OpenBusinessSystem(system="crm", name=HOSTILE, api_request_url="https://crm.example/hook"),
                AddIntent(system="crm", code="ORDER_STATUS", name="Order status", default_data={"order": "42"}),
                ToggleSms(enabled=True),
                SaveOtpScheduling(enabled=True, countries=["ID", "IN"], use_own_numbers=False),
            ):
                outcome = await publisher.send(command, channel=whatsapp)
                assert outcome.accepted, outcome
        async with installation.api(account) as api:  # the console shows the read model, which follows
            for channel, version in ((whatsapp, outcome.version), (telegram, 1)):
                assert (await api("GET", f"channels/{channel}/settings?min_version={version}")).status == 200

    run_apart(make())
    return whatsapp


def test_it_shows_channels_and_settings(installation: Installation, browser_page: Page) -> None:
    account = fresh("account")
    channel = _shop(installation, account)
    problems: list[str] = []
    browser_page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    browser_page.on("pageerror", lambda error: problems.append(str(error)))
    browser_page.goto(installation.address)

    browser_page.get_by_label("API key").fill(installation.api_key(account))
    browser_page.get_by_role("button", name="Show channels").click()

    links = browser_page.get_by_role("complementary", name="Channels").get_by_role("link")
    expect(links).to_have_count(2)
    settings = browser_page.locator("#settings")
    expect(settings.get_by_role("heading", level=1)).to_have_text("Shop on whatsapp")
    expect(settings).to_contain_text(channel)
    expect(settings).to_contain_text("Order status")
    expect(settings).to_contain_text("Indonesia")
    expect(settings.get_by_role("heading", level=3).first).to_have_text(HOSTILE)
    links.nth(1).click()
    expect(settings).to_contain_text("Only WhatsApp channels can use it.")
    assert problems == []
    assert browser_page.title() == "Switchboard"
    links.nth(0).click()
    expect(settings).to_contain_text("Order status")
    assert _fits_a_phone(browser_page)


def test_it_refuses_a_key_that_is_not_valid(installation: Installation, browser_page: Page) -> None:
    browser_page.goto(installation.address)
    browser_page.evaluate("sessionStorage.clear()")
    browser_page.reload()

    browser_page.get_by_label("API key").fill("sb_nothing")
    browser_page.get_by_role("button", name="Show channels").click()

    expect(browser_page.get_by_role("alert").first).to_have_text("This API key is not valid, or was revoked.")
    assert _fits_a_phone(browser_page)


def test_the_api_is_described(installation: Installation, browser_page: Page) -> None:
    asked: list[str] = []
    browser_page.on("request", lambda request: asked.append(request.url))
    browser_page.goto(f"{installation.address}/docs")

    expect(browser_page.get_by_role("heading", level=1)).to_contain_text("Switchboard")
    expect(browser_page.get_by_role("button", name="Authorize")).to_be_visible()
    expect(browser_page.get_by_text("/v1/channels/{channel}/sms").first).to_be_visible()
    elsewhere = [url for url in asked if not url.startswith((installation.address, "data:"))]
    assert elsewhere == []


def _fits_a_phone(page: Page) -> bool:
    page.set_viewport_size({"width": 390, "height": 800})
    fits = page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.set_viewport_size({"width": 1280, "height": 800})
    return bool(fits)
