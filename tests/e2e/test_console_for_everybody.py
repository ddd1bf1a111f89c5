"""The console by keyboard, on a phone, in every colour scheme, and for axe."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import person
from tests.e2e.furnished import Furnished, furnish
from tests.e2e.shop import register
from tests.installation import Installation, fresh, run_apart

pytestmark = pytest.mark.timeout(300)  # the first test also pays for the services


@pytest.fixture(scope="module")
def account() -> str:
    return fresh("account")


@pytest.fixture(scope="module")
def furnished(installation: Installation, account: str) -> Furnished:
    return furnish(installation, account)


VIOLATIONS = {"resultTypes": ["violations"]}
"""What passes is not described: that takes as long again."""
WIDTHS = {"small phone": 320, "phone": 390, "200 % zoom": 640}


def test_axe_finds_nothing_and_every_view_fits(
    installation: Installation, browser: Browser, account: str, furnished: Furnished
) -> None:
    found = {}
    with person(browser, installation.address, installation.api_key(account), reduced_motion="reduce") as somebody:
        for name, path in furnished.views().items():
            somebody.visit(path)
            found[name] = _barriers(somebody.page) + _too_wide(somebody.page)
        somebody.page.context.clear_cookies()
        somebody.visit("log-on")
        found["log-on"] = _barriers(somebody.page) + _too_wide(somebody.page)
    with person(browser, installation.address, installation.api_key(None), reduced_motion="reduce") as operator:
        operator.visit("health")
        operator.page.keyboard.press("?")
        expect(operator.page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        found["health"] = _barriers(operator.page) + _too_wide(operator.page)
    assert {name: barriers for name, barriers in found.items() if barriers} == {}


def _barriers(page: Page) -> list[str]:
    """What axe finds; in the dark, only the colours can differ."""
    found = Axe().run(page, options=VIOLATIONS).response["violations"]
    page.emulate_media(color_scheme="dark")
    found += page.evaluate("options => axe.run(options)", {**VIOLATIONS, "runOnly": ["color-contrast"]})["violations"]
    page.emulate_media(color_scheme="light")
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def _too_wide(page: Page) -> list[str]:
    found = []
    for name, width in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": 700})
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"wider than a {name}")
    page.set_viewport_size({"width": 1280, "height": 720})
    return found


def _tab_to(page: Page, name: str) -> None:
    """Presses Tab until what has the focus has this name."""
    for _ in range(200):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "() => { const e = document.activeElement; return (e.ariaLabel || e.labels?.[0]?.textContent ||"
            " document.getElementById(e.getAttribute('aria-labelledby'))?.textContent || e.textContent || '').trim() }"
        )
        if str(focused).startswith(name):
            return
    raise AssertionError(f"Tab does not reach {name!r}")


def _switch_on(page: Page, name: str) -> None:
    """Again where the change before came back from the server just then, and drew anew what had the focus."""
    switch = page.get_by_role("switch", name=name)
    for _ in range(3):
        _tab_to(page, name)
        page.keyboard.press("Space")
        try:
            expect(switch).to_be_checked()
        except AssertionError:
            continue
        return
    raise AssertionError(f"{name!r} is not on")


def test_the_page_by_keyboard_alone(installation: Installation, browser: Browser, account: str) -> None:
    channel = register(installation, account, "whatsapp", "Keys")
    with person(browser, installation.address, installation.api_key(account)) as somebody:
        page = somebody.page
        somebody.service_settings(channel)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # Skip to content
        _tab_to(page, "Open Business System")
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_label("System Name")).to_be_focused()
        page.keyboard.type("CRM")
        page.keyboard.press("Tab")
        page.keyboard.type("https://crm.example/hook")
        _tab_to(page, "Refresh")
        page.keyboard.press("Enter")
        expect(dialog.get_by_label("Signature", exact=True)).to_be_visible()
        _tab_to(page, "Remarks")
        page.keyboard.type("By keyboard")
        _tab_to(page, "OK")
        page.keyboard.press("Enter")
        expect(page.get_by_role("article", name="CRM")).to_be_visible()
        _switch_on(page, "Activate SMS")
        _switch_on(page, "OTP Delivery Scheduling")
        _tab_to(page, "Search countries/regions")
        page.keyboard.type("indones")
        _tab_to(page, "Indonesia")
        page.keyboard.press("Space")
        _tab_to(page, "Save")
        page.keyboard.press("Enter")
        expect(page.get_by_text("OTP delivery scheduling is saved.")).to_be_visible()


def test_escape_closes_a_dialog_and_gives_the_focus_back(
    installation: Installation, browser: Browser, account: str, furnished: Furnished
) -> None:
    with person(browser, installation.address, installation.api_key(account)) as somebody:
        somebody.service_settings(furnished.channel)
        link = somebody.page.get_by_role("link", name="Edit Customer care")
        link.focus()
        somebody.page.keyboard.press("Enter")
        expect(somebody.page.get_by_role("dialog")).to_be_visible()
        assert somebody.page.url.endswith("/edit")
        somebody.page.keyboard.press("Escape")
        expect(somebody.page.get_by_role("dialog")).to_have_count(0)
        assert somebody.page.url.endswith("/service-settings")
        expect(link).to_be_focused()


def test_the_palette_goes_everywhere_by_keyboard(
    installation: Installation, browser: Browser, account: str, furnished: Furnished
) -> None:
    with person(browser, installation.address, installation.api_key(account)) as somebody:
        page = somebody.page
        somebody.service_settings(furnished.channel)
        page.keyboard.press("Control+k")
        palette = page.get_by_role("dialog", name="Go to")
        expect(palette.get_by_role("searchbox")).to_be_focused()
        page.keyboard.press("Escape")
        expect(palette).to_have_count(0)
        page.keyboard.press("Control+k")
        expect(palette.get_by_role("searchbox")).to_be_focused()
        page.keyboard.type("delive")
        expect(palette.get_by_role("link")).to_have_text(["Deliveries " + furnished.channel])
        page.keyboard.press("ArrowDown")
        expect(palette.get_by_role("link")).to_be_focused()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Deliveries")).to_be_visible()
        page.keyboard.press("Control+k")
        expect(palette.get_by_role("searchbox")).to_be_focused()
        page.keyboard.type("house viber")
        expect(palette.get_by_role("link")).to_have_count(1)
        page.keyboard.press("Enter")
        expect(page.get_by_text("Batik House Viber · Viber")).to_be_visible()
        assert somebody.problems == []


def test_single_keys_are_shortcuts_until_they_are_switched_off(
    installation: Installation, browser: Browser, account: str
) -> None:
    with person(browser, installation.address, installation.api_key(account)) as somebody:
        page = somebody.page
        page.keyboard.press("/")
        page.keyboard.type("gu")
        expect(page.get_by_role("searchbox")).to_have_value("gu")
        page.get_by_role("heading", name="Channel Management").click()
        page.keyboard.type("gu")
        expect(page.get_by_role("heading", name="Usage", exact=True)).to_be_visible()
        page.keyboard.press("?")
        page.get_by_label("Single keys are shortcuts").uncheck()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.reload()
        page.keyboard.type("gc")
        page.get_by_role("button", name="Keyboard shortcuts").click()
        expect(page.get_by_label("Single keys are shortcuts")).not_to_be_checked()
        expect(page.get_by_role("heading", name="Usage", exact=True)).to_be_visible()
        assert somebody.problems == []


def test_what_settings_would_have_made_of_the_messages_before_they_are_saved(
    installation: Installation, browser: Browser, account: str, furnished: Furnished
) -> None:
    with person(browser, installation.address, installation.api_key(account)) as somebody:
        page = somebody.page
        somebody.service_settings(furnished.channel)
        page.get_by_role("switch", name="Use Own Numbers").check()
        page.get_by_role("button", name="What if").click()
        found = page.get_by_role("region", name="What if")
        expect(found.get_by_role("row", name="United Arab Emirates")).to_contain_text("1: not sent → own number")
        expect(found.get_by_role("row", name="Malaysia")).to_contain_text("the same")
        expect(page.get_by_role("switch", name="Use Own Numbers")).to_be_checked()
        assert _barriers(page) + _too_wide(page) == []
        page.reload()
        expect(page.get_by_role("switch", name="Use Own Numbers")).not_to_be_checked()
        assert somebody.problems == []


def test_a_viewer_is_offered_no_change(
    installation: Installation, browser: Browser, account: str, furnished: Furnished
) -> None:
    async def viewer() -> str:
        async with installation.api(account) as api:
            made = await api("POST", "api-keys", {"label": "Viewer", "roles": ["viewer"]})
            return str(made.body["token"])

    channel = f"channels/{furnished.channel}"
    crm = f"{channel}/service-settings/business-systems/crm"
    with person(browser, installation.address, run_apart(viewer())) as somebody:
        page = somebody.page
        for path in (f"{channel}/service-settings", f"{crm}/intents", f"{channel}/messages", f"{channel}/history"):
            somebody.visit(path)
            expect(page.get_by_role("heading").first).to_be_visible()
            offered = page.locator("main form[method=post] button:not([type=button]):enabled")
            expect(offered).to_have_count(0)
            for name in ("Open Business System", "Edit", "Delete", "Refresh", "Add", "Test call", "Undo"):
                expect(page.get_by_role("main").get_by_role("link", name=name)).to_have_count(0)
        for path in (f"{channel}/deliveries", f"{channel}/deliveries/{furnished.delivery}"):
            somebody.visit(path)
            expect(page.get_by_role("button", name="again")).to_have_count(0)
        assert somebody.problems == []


def test_the_platforms_people_see_how_it_is(
    installation: Installation, browser: Browser, account: str, furnished: Furnished
) -> None:
    with person(browser, installation.address, installation.api_key(None)) as operator:
        page = operator.page
        page.get_by_role("link", name="Health").click()
        for reader in ("settings", "history", "intents", "signed calls", "messages"):
            expect(page.get_by_role("row", name=f"{reader} ")).to_have_count(1)
        row = page.get_by_role("row", name=furnished.channel)
        expect(row).to_contain_text(account)
        row.get_by_role("link", name="crm", exact=True).click()
        expect(page.get_by_role("heading", name="Deliveries")).to_be_visible()
    with person(browser, installation.address, installation.api_key(account)) as customer:
        expect(customer.page.get_by_role("link", name="Usage")).to_be_visible()
        expect(customer.page.get_by_role("link", name="Health")).to_have_count(0)
        customer.visit("health")
        expect(customer.page.get_by_role("heading", name="Health")).to_have_count(0)


def test_the_page_works_without_scripts(installation: Installation, browser: Browser, account: str) -> None:
    channel = register(installation, account, "whatsapp", "Plain")
    options = {"java_script_enabled": False}
    with person(browser, installation.address, installation.api_key(account), **options) as somebody:
        page = somebody.page
        somebody.visit("channels", channel, "service-settings")
        page.get_by_role("link", name="Open Business System").click()
        page.get_by_label("System Name").fill("CRM")
        page.get_by_label("API Request URL").fill("https://crm.example/hook")
        page.get_by_role("button", name="OK").click()
        expect(page.get_by_role("article", name="CRM")).to_be_visible()
        page.get_by_role("switch", name="Activate SMS").click()
        expect(page.get_by_role("switch", name="Activate SMS")).to_be_checked()
