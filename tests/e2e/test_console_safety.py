"""What attacks the console: text that would be code, forms of other sites, and sessions that have ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

import pytest
from fastapi.routing import APIRoute
from playwright.sync_api import Browser, Page, expect

from contracts.business_system import OpenBusinessSystem
from contracts.intent import AddIntent
from services.gateway.authentication import api_keys
from services.gateway.console import views
from services.infrastructure.postgres import pool_of
from tests.e2e.browser import Person, person
from tests.e2e.furnished import Furnished
from tests.e2e.shop import register, send
from tests.installation import Installation, fresh, run_apart

pytestmark = pytest.mark.timeout(300)  # the first test also pays for the services

PAYLOAD = "\"'></textarea><img src=x onerror=window.owned=1><script>window.owned=1</script>{{7*7}}"


@pytest.fixture
def account() -> str:
    return fresh("account")


@pytest.fixture
def somebody(installation: Installation, browser: Browser, account: str) -> Iterator[Person]:
    with person(browser, installation.address, installation.api_key(account)) as found:
        yield found


def _is_owned(page: Page) -> bool:
    return bool(page.evaluate("window.owned !== undefined || document.querySelector('img[src=x]') !== null"))


def test_text_is_never_code(installation: Installation, somebody: Person, account: str) -> None:
    channel = register(installation, account, "whatsapp", PAYLOAD)
    send(
        installation,
        account,
        channel,
        [
            OpenBusinessSystem(system="crm", name=PAYLOAD, api_request_url="https://crm.example/", remarks=PAYLOAD),
            AddIntent(
                system="crm",
                code="ORDER_STATUS",
                name=PAYLOAD,
                default_data={PAYLOAD: PAYLOAD},
                json_schema={"title": PAYLOAD},
            ),
        ],
    )
    paths = Furnished(channel, "none").views()
    for path in (path for name, path in paths.items() if name not in ("delivery", "trace", "undo")):
        somebody.visit(path)
        expect(somebody.page.get_by_role("heading").first).to_be_visible()
        assert not _is_owned(somebody.page), path
    assert somebody.problems == []


def _queries() -> Iterator[tuple[str, str]]:
    """Each parameter of each view: the view's path, and the parameter's name."""
    for module in iter_modules(views.__path__):
        for route in import_module(f"{views.__name__}.{module.name}").router.routes:
            assert isinstance(route, APIRoute)
            if "GET" in (route.methods or ()):
                yield from ((route.path, parameter.alias) for parameter in route.dependant.query_params)


def test_text_of_an_address_is_never_code(installation: Installation, somebody: Person, account: str) -> None:
    places = {"channel": register(installation, account, "whatsapp")}
    shown = set()
    for path, name in _queries():
        url = f"{installation.address}/console{path.format(**places)}"
        text = somebody.page.context.request.get(url, params={name: PAYLOAD}).text()
        assert "<img src=x" not in text, (path, name)
        if "&lt;img src=x" in text:
            shown.add(name)
    assert shown >= {"search", "type", "actor", "from", "to", "q", "next"}


def test_text_that_is_refused_comes_back_as_text(installation: Installation, somebody: Person, account: str) -> None:
    channel = register(installation, account, "whatsapp")
    somebody.visit("channels", channel, "service-settings", "open-business-system")
    dialog = somebody.page.get_by_role("dialog")
    dialog.get_by_label("System Name").fill(PAYLOAD)
    dialog.get_by_label("API Request URL").fill(f"javascript:{PAYLOAD}")
    dialog.get_by_label("Remarks").fill(PAYLOAD)
    dialog.get_by_role("button", name="OK").click()
    expect(dialog.get_by_text(re.compile("The API Request URL cannot be used"))).to_be_visible()
    expect(dialog.get_by_label("System Name")).to_have_value(PAYLOAD)
    assert not _is_owned(somebody.page)
    assert somebody.problems == []


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, "known"),
        ({"Sec-Fetch-Site": "same-site"}, "known"),
        ({"Origin": "https://evil.example"}, "known"),
        ({}, "known"),
        ({"Sec-Fetch-Site": "same-origin"}, "guess"),
    ],
    ids=["cross-site", "same-site", "other-origin", "no-origin", "no-token"],
)
def test_a_form_of_another_site_changes_nothing(
    installation: Installation, somebody: Person, account: str, headers: dict[str, str], token: str
) -> None:
    channel = register(installation, account, "whatsapp")
    somebody.service_settings(channel)
    page = somebody.page
    known = page.locator("#sms input[name=form_token]").input_value()
    form: dict[str, str | float | bool] = {"enabled": "true", "form_token": known if token == "known" else token}
    url = f"{installation.address}/console/channels/{channel}/service-settings/sms"
    assert page.context.request.post(url, form=form, headers=headers, max_redirects=0).status == 403
    page.reload()
    expect(page.get_by_role("switch", name="Activate SMS")).not_to_be_checked()
    same_site = {"Sec-Fetch-Site": "same-origin"}  # the same form, of the console itself
    own = page.context.request.post(url, form=form | {"form_token": known}, headers=same_site, max_redirects=0)
    assert own.status == 303


def test_another_accounts_channel_looks_unknown(installation: Installation, somebody: Person) -> None:
    channel = register(installation, fresh("account"), "whatsapp", "A secret name")
    for path in Furnished(channel, "none").views().values():
        if channel in path:
            answer = somebody.page.context.request.get(f"{installation.address}/console/{path}")
            assert (answer.status, "A secret name" in answer.text()) == (404, False), path


def test_the_cookie_is_for_the_server_alone(somebody: Person) -> None:
    (cookie,) = somebody.page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert somebody.page.evaluate("document.cookie") == ""


def test_a_revoked_key_ends_the_session(installation: Installation, browser: Browser, account: str) -> None:
    token = installation.api_key(account)
    with person(browser, installation.address, token) as somebody:
        _revoke(installation, token)
        somebody.visit("channels")
        expect(somebody.page.get_by_label("API key")).to_be_visible()


def _revoke(installation: Installation, token: str) -> None:
    async def revoke() -> None:
        pool = await pool_of(installation.settings, size=1)
        try:
            assert await api_keys.revoke(pool, token.split("_")[1])
        finally:
            await pool.close()

    run_apart(revoke())


def test_who_logs_off_is_out(somebody: Person) -> None:
    (cookie,) = somebody.page.context.cookies()
    somebody.page.get_by_role("button", name="Log off", exact=True).click()
    expect(somebody.page.get_by_label("API key")).to_be_visible()
    copied = {"Cookie": f"{cookie['name']}={cookie['value']}"}
    answer = somebody.page.context.request.get(f"{somebody.address}/console/channels", headers=copied)
    assert "/console/log-on" in answer.url


def test_a_session_that_ends_loses_no_input(installation: Installation, somebody: Person, account: str) -> None:
    channel = register(installation, account, "whatsapp")
    somebody.visit("channels", channel, "service-settings", "open-business-system")
    page = somebody.page
    dialog = page.get_by_role("dialog", name="Open Business System")
    dialog.get_by_label("System Name").fill("CRM")
    dialog.get_by_label("API Request URL").fill("https://crm.example/hook")
    page.context.clear_cookies()
    dialog.get_by_role("button", name="OK").click()
    again = page.get_by_role("dialog", name="Your session has ended")
    again.get_by_label("API key").fill(installation.api_key(account))
    again.get_by_role("button", name="Log on").click()
    expect(again).to_have_count(0)
    expect(dialog.get_by_label("System Name")).to_have_value("CRM")
    dialog.get_by_role("button", name="OK").click()
    expect(page.get_by_role("article", name="CRM")).to_be_visible()


def test_a_line_that_breaks_loses_no_input(installation: Installation, somebody: Person, account: str) -> None:
    channel = register(installation, account, "whatsapp")
    somebody.visit("channels", channel, "service-settings", "open-business-system")
    page = somebody.page
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("System Name").fill("CRM")
    dialog.get_by_label("API Request URL").fill("https://crm.example/hook")
    page.context.set_offline(True)
    dialog.get_by_role("button", name="OK").click()
    expect(page.get_by_text("The server does not answer.")).to_be_visible()
    page.context.set_offline(False)
    dialog.get_by_role("button", name="OK").click()
    expect(page.get_by_role("article", name="CRM")).to_be_visible()


def test_a_secret_is_shown_once_and_kept_nowhere(installation: Installation, somebody: Person, account: str) -> None:
    channel = register(installation, account, "whatsapp")
    crm = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/hook")
    send(installation, account, channel, [crm])
    somebody.service_settings(channel)
    page = somebody.page
    page.get_by_role("link", name="Refresh the signature of CRM").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("radio", name="It ends now").check()
    dialog.get_by_role("button", name="Refresh").click()
    secret = dialog.get_by_label("Signature", exact=True).input_value()
    assert secret.startswith("whsec_")
    kept = page.evaluate("JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + location.href")
    assert secret not in kept
    dialog.get_by_role("link", name="Close").click()
    expect(dialog).to_have_count(0)
    page.go_back()
    expect(page.get_by_role("heading", name="Signature of CRM")).to_be_visible()
    assert secret not in page.content()
    assert secret not in installation.output()


def test_a_key_is_made_shown_once_and_revoked(installation: Installation, browser: Browser) -> None:
    account = fresh("account")
    with person(browser, installation.address, installation.api_key(account)) as somebody:
        page = somebody.page
        page.get_by_role("link", name="API Keys").click()
        page.get_by_label("Label").fill("<i>Ada</i>")
        page.get_by_role("button", name="Make the key").click()
        expect(page.get_by_role("alert")).to_contain_text("roles")
        expect(page.get_by_label("Label")).to_have_value("<i>Ada</i>")
        page.get_by_label("viewer").check()
        page.get_by_role("button", name="Make the key").click()
        token = page.get_by_label("New API key").input_value()
        page.reload()  # makes no second key
        expect(page.get_by_role("row", name="<i>Ada</i>")).to_contain_text("valid")
        expect(page.get_by_label("New API key")).to_have_count(0)
        page.once("dialog", lambda question: question.accept())
        page.get_by_role("button", name="Rotate <i>Ada</i>").click()
        assert page.get_by_label("New API key").input_value() != token
        expect(page.get_by_role("row", name="<i>Ada</i>")).to_have_count(2)
        expect(page.get_by_role("row", name="replaces")).to_have_count(1)
        with person(browser, installation.address, token) as viewer:
            expect(viewer.page.get_by_role("link", name="Usage")).to_be_visible()
            expect(viewer.page.get_by_role("link", name="API Keys")).to_have_count(0)
            page.once("dialog", lambda question: question.accept())
            page.get_by_role("row").filter(has_not_text="replaces").get_by_role(
                "button", name="Revoke <i>Ada</i>"
            ).click()
            expect(page.get_by_text("The key is revoked.")).to_be_visible()
            viewer.visit("channels")
            expect(viewer.page.get_by_label("API key")).to_be_visible()
        assert somebody.problems == []
