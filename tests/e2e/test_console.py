"""The help page "Service settings", sentence by sentence, done by a person in the console."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.browser import Person, person
from tests.e2e.shop import register
from tests.installation import Installation, fresh

_SIGNATURE = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")


@pytest.fixture
def account() -> str:
    return fresh("account")


@pytest.fixture
def somebody(installation: Installation, browser: Browser, account: str) -> Iterator[Person]:
    with person(browser, installation.address, installation.api_key(account)) as found:
        yield found
        assert found.problems == []


def _dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


def _open_page(somebody: Person, channel: str) -> Page:
    page = somebody.page
    # "Log on to the Chat App Message Service console."
    expect(page.get_by_role("link", name="Chat App Message Service")).to_be_visible()
    # "In the left-side navigation pane, click Channel Management."
    page.get_by_role("link", name="Channel Management").click()
    # "On the Channel Management page, find the channel, and click its ID or click Manage in the Actions column."
    page.get_by_label("Search").fill(channel)
    page.get_by_role("link", name=channel, exact=True).click()
    expect(page.get_by_role("heading", name="Channel Details")).to_be_visible()
    page.get_by_role("link", name="Channel Management").click()
    page.get_by_role("link", name=f"Manage {channel}").click()
    # "On the channel details page, click Service Settings in the left-side navigation pane."
    page.get_by_role("navigation", name="Console").get_by_role("link", name="Service Settings").click()
    expect(page.get_by_role("heading", name="Service Settings")).to_be_visible()
    somebody.wait_until_live()
    return page


def _open_business_system(page: Page, name: str = "CRM") -> str:
    # "On the Service Settings page, click Open Business System."
    page.get_by_role("link", name="Open Business System").click()
    dialog = _dialog(page)
    # "In the Open Business System dialog box, set System Name, API Request URL, Signature, and Remarks as prompted."
    dialog.get_by_label("System Name").fill(name)
    refresh = dialog.get_by_role("button", name="Refresh")
    expect(refresh).to_be_disabled()
    # "After filling in the API address, click the Refresh icon next to Signature to obtain the signature."
    dialog.get_by_label("API Request URL").fill("https://crm.example/hook")
    refresh.click()
    signature = dialog.get_by_label("Signature", exact=True)
    expect(signature).to_have_value(_SIGNATURE)
    first = signature.input_value()
    # "Each time you click the Refresh icon, the signature will be updated."
    dialog.get_by_role("button", name="Refresh").click()
    expect(signature).not_to_have_value(first)
    second = signature.input_value()
    dialog.get_by_label("Remarks").fill("Ours")
    dialog.get_by_role("button", name="OK").click()
    expect(_dialog(page)).to_have_count(0)
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    return second


def _configure_intent(page: Page) -> None:
    # "To add a new intent, you need to activate a business system first."
    # "On the Service Settings page, click Intent settings in the business system card."
    page.get_by_role("article", name="CRM").get_by_role("link", name="Intent settings").click()
    # "In the panel that appears, click Add, and then set Intent Code, Intent Name, and Default Intent Data as prompted
    # in the dialog box."
    _dialog(page).get_by_role("link", name="Add").click()
    dialog = _dialog(page)
    dialog.get_by_label("Intent Code").fill("ORDER_STATUS")
    dialog.get_by_label("Intent Name").fill("Order status")
    dialog.get_by_label("Default Intent Data").fill(json.dumps({"order": "1001"}))
    # "Click OK."
    dialog.get_by_role("button", name="OK").click()
    expect(_dialog(page).get_by_role("cell", name="ORDER_STATUS", exact=True)).to_be_visible()
    _dialog(page).get_by_role("link", name="Close").click()
    expect(_dialog(page)).to_have_count(0)


def _activate_sms(page: Page) -> None:
    # "On the Service Settings page, turn on the Activate SMS switch."
    switch = page.get_by_role("switch", name="Activate SMS")
    expect(switch).not_to_be_checked()
    switch.click()
    expect(page.get_by_role("switch", name="Activate SMS")).to_be_checked()


@pytest.mark.timeout(300)  # the first test also pays for the services
def test_the_page_for_whatsapp(installation: Installation, somebody: Person, account: str) -> None:
    # "A channel has been created."
    page = _open_page(somebody, register(installation, account, "whatsapp"))
    _open_business_system(page)
    _configure_intent(page)
    _activate_sms(page)
    # "On the Service Settings page, turn on the OTP Delivery Scheduling switch."
    page.get_by_role("switch", name="OTP Delivery Scheduling").click()
    # "In the Countries Using Scheduling section, select the countries/regions where you want to use scheduling for
    # sending."
    countries = page.get_by_role("group", name="Countries Using Scheduling")
    countries.get_by_label("Search countries/regions").fill("indo")
    countries.get_by_role("checkbox", name="Indonesia").check()
    countries.get_by_label("Search countries/regions").fill("")
    countries.get_by_role("checkbox", name="India", exact=True).check()
    # "Choose whether to turn on the Use Own Numbers switch based on your needs."
    page.get_by_role("switch", name="Use Own Numbers").click()
    # "your own numbers will be used for sending, which may incur international authentication rates"
    expect(page.get_by_text("your own numbers will be used for sending")).to_be_visible()
    page.get_by_role("button", name="Save", exact=True).click()
    section = page.get_by_role("region", name="OTP Delivery Scheduling")
    expect(section.get_by_role("alert")).to_contain_text("may incur international authentication rates")
    page.get_by_label("I know that sending from own numbers").check()
    # "Click Save."
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("OTP delivery scheduling is saved.")).to_be_visible()
    page.reload()
    expect(page.get_by_role("list", name="Chosen countries/regions")).to_have_text(re.compile("Indonesia.*India", re.S))
    # "To edit the business system, click the Edit icon next to the business system name."
    page.get_by_role("link", name="Edit CRM").click()
    _dialog(page).get_by_label("Remarks").fill("Theirs")
    _dialog(page).get_by_role("button", name="OK").click()
    expect(page.get_by_role("article", name="CRM")).to_contain_text("Theirs")
    # "To delete the business system, click the Delete icon in the card."
    page.get_by_role("link", name="Delete CRM").click()
    _dialog(page).get_by_role("button", name="Delete").click()
    expect(page.get_by_role("article")).to_have_count(0)


@pytest.mark.parametrize("channel_type", ["viber", "telegram"])
def test_the_page_for_a_channel_that_cannot_schedule(
    installation: Installation, somebody: Person, account: str, channel_type: str
) -> None:
    page = _open_page(somebody, register(installation, account, channel_type))
    _open_business_system(page)
    _configure_intent(page)
    _activate_sms(page)
    # "The OTP delivery scheduling feature is only available for WhatsApp channels"
    section = page.get_by_role("region", name="OTP Delivery Scheduling")
    expect(section).to_contain_text("only available for WhatsApp channels")
    expect(section.get_by_role("switch")).to_have_count(0)


def test_a_key_that_is_not_valid_is_refused(installation: Installation, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(installation.address)
    page.get_by_label("API key").fill("sb_nothing")
    page.get_by_role("button", name="Log on").click()
    expect(page.get_by_role("alert")).to_have_text("This API key is not valid, or not from here.")
    page.close()


def test_the_api_is_described(installation: Installation, browser: Browser) -> None:
    page = browser.new_page()
    requested: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(f"{installation.address}/docs")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Switchboard")
    expect(page.get_by_role("button", name="Authorize")).to_be_visible()
    expect(page.get_by_text("/v1/channels/{channel}/sms").first).to_be_visible()
    page.get_by_text("/v1/channels/{channel}/sms").first.click()
    expect(page.get_by_role("button", name="Try it out")).to_be_visible()
    assert [url for url in requested if not url.startswith((installation.address, "data:"))] == []
    assert complaints == []  # such as of the Content-Security-Policy
    page.close()
