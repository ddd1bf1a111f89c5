"""Customer Management: what a provider sees instead of Channel Management, and does for all customers at once."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from contracts.channel import RegisterChannel
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.sms import ToggleSms
from services.gateway.authentication import api_keys
from services.gateway.authentication.roles import ALL_ROLES, Role, Scope
from services.infrastructure.postgres import pool_of
from tests.e2e.shop import send
from tests.installation import Installation, fresh, run_apart

pytestmark = pytest.mark.timeout(300)  # the first test also pays for the services


@dataclass(frozen=True, slots=True)
class Customers:
    """Two customers of the provider, with a channel each; ``furnished`` has SMS and scheduling with own numbers."""

    provider: str
    furnished: str
    plain: str


@pytest.fixture
def customers(installation: Installation) -> Customers:
    found = Customers(fresh("prov"), fresh("ch"), fresh("ch"))
    register = RegisterChannel(
        channel_type="whatsapp", name="Shop", enterprise_authenticated=True, provider=found.provider
    )
    form = SaveOtpScheduling(
        enabled=True, countries=["NO"], use_own_numbers=True, international_rates_acknowledged=True
    )
    send(installation, fresh("acct"), found.furnished, [register, ToggleSms(enabled=True), form])
    send(installation, fresh("acct"), found.plain, [register])
    send(installation, fresh("acct"), fresh("other"), [register.model_copy(update={"provider": fresh("prov")})])
    return found


def log_on(
    installation: Installation, browser: Browser, customers: Customers, roles: frozenset[Role] = ALL_ROLES
) -> Page:
    async def key() -> str:
        pool = await pool_of(installation.settings, size=1)
        try:
            return await api_keys.create(pool, label="Ada", scope=Scope(provider=customers.provider), roles=roles)
        finally:
            await pool.close()

    page = browser.new_context(locale="en-GB").new_page()
    page.set_default_navigation_timeout(90_000)
    page.goto(installation.address)
    page.get_by_label("API key").fill(run_apart(key()))
    page.get_by_role("button", name="Log on").click()
    return page


def test_a_provider_compares_its_customers_and_saves_for_all(
    installation: Installation, browser: Browser, customers: Customers
) -> None:
    page = log_on(installation, browser, customers)
    expect(page.get_by_role("heading", name="Customer Management")).to_be_visible()
    navigation = page.get_by_role("navigation", name="Console")
    expect(navigation.get_by_role("link", name="Customer Management")).to_have_attribute("aria-current", "page")
    expect(navigation.get_by_role("link", name="Channel Management")).to_have_count(0)
    expect(page.get_by_role("row")).to_have_count(4)  # two heads, two channels

    page.get_by_role("link", name=f"Compare with {customers.furnished}").click()
    row = page.get_by_role("row").filter(has_text=customers.plain)
    expect(row).to_contain_text("SMS, OTP Delivery Scheduling")
    assert Axe().run(page).response["violations"] == []
    save = page.get_by_role("button", name="Save the template's sections")
    save.click()
    results = page.get_by_role("region", name="What became of each channel")
    expect(results).to_contain_text("saved SMS")
    expect(results).to_contain_text("international")  # the rates have to be acknowledged
    expect(row).not_to_contain_text("SMS,")
    page.get_by_label("I know that sending from own numbers").check()
    save.click()
    expect(results).to_contain_text("saved OTP Delivery Scheduling")
    expect(row.get_by_role("checkbox")).to_have_count(0)
    assert Axe().run(page).response["violations"] == []
    save.click()
    expect(page.get_by_role("alert")).to_have_text("Choose at least one channel.")

    page.set_viewport_size({"width": 320, "height": 700})
    page.goto(f"{installation.address}/console/customers?template={customers.furnished}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.goto(f"{installation.address}/console/channels/{customers.plain}/service-settings")
    expect(page.get_by_role("heading", name="Service Settings")).to_be_visible()
    expect(page.get_by_role("link", name="Customer Management")).to_be_visible()
    page.context.close()


def test_a_reader_changes_nothing(installation: Installation, browser: Browser, customers: Customers) -> None:
    page = log_on(installation, browser, customers, frozenset({Role.VIEWER}))
    page.get_by_role("link", name=f"Compare with {customers.furnished}").click()
    page.get_by_role("button", name="Save the template's sections").click()
    expect(page.get_by_text("This needs the role editor")).to_be_visible()
    page.context.close()
