"""Two people on one channel: changes appear, and nobody's change is overwritten unseen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Locator, Route, expect

from contracts.business_system import OpenBusinessSystem
from tests.e2e.browser import Person, person
from tests.e2e.shop import register, send
from tests.installation import Installation, fresh

pytestmark = pytest.mark.timeout(300)  # the first test also pays for the services

SOON_MS = 30_000
"""It is less than a second on a machine that does nothing else."""


@dataclass
class Pair:
    channel: str
    here: Person
    there: Person


@pytest.fixture(scope="module")
def account() -> str:
    return fresh("account")


@pytest.fixture(scope="module")
def people(installation: Installation, browser: Browser, account: str) -> Iterator[tuple[Person, Person]]:
    with (
        person(browser, installation.address, installation.api_key(account)) as here,
        person(browser, installation.address, installation.api_key(account)) as there,
    ):
        yield here, there


@pytest.fixture
def pair(installation: Installation, account: str, people: tuple[Person, Person]) -> Iterator[Pair]:
    channel = register(installation, account, "whatsapp")
    crm = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/hook", remarks="Before")
    send(installation, account, channel, [crm])
    for somebody in people:
        somebody.service_settings(channel)
    yield Pair(channel, *people)
    for somebody in people:
        somebody.page.unroute_all()
        assert somebody.problems == []


def _edit(somebody: Person, **fields: str) -> Locator:
    somebody.page.get_by_role("link", name="Edit CRM").click()
    dialog = somebody.page.get_by_role("dialog")
    for label, value in fields.items():
        dialog.get_by_label(label.replace("_", " ")).fill(value)
    return dialog


def _save(dialog: Locator) -> None:
    dialog.get_by_role("button", name="OK").click()
    expect(dialog).to_have_count(0)


def test_a_change_appears_in_the_other_browser(pair: Pair) -> None:
    page = pair.there.page
    with page.expect_response(lambda answer: "min_version=" in answer.url) as drawn:
        pair.here.page.get_by_role("switch", name="Activate SMS").click()
    expect(page.get_by_role("switch", name="Activate SMS")).to_be_checked(timeout=SOON_MS)
    assert "Select countries" not in drawn.value.text()  # that part alone
    dialog = _edit(pair.here, Remarks="After")
    _save(dialog)
    expect(pair.there.page.get_by_role("article", name="CRM")).to_contain_text("After", timeout=SOON_MS)


def test_an_open_form_takes_over_what_only_the_other_changed(pair: Pair) -> None:
    form = _edit(pair.here, System_Name="Mine")
    _save(_edit(pair.there, Remarks="Theirs"))
    expect(form.get_by_label("Remarks")).to_have_value("Theirs", timeout=SOON_MS)
    expect(form).to_contain_text("Somebody else changed this; here is the new value.")
    expect(form.get_by_label("System Name")).to_have_value("Mine")
    _save(form)
    article = pair.there.page.get_by_role("article", name="Mine")
    expect(article).to_contain_text("Theirs")


@pytest.mark.parametrize(("choice", "name"), [("Take theirs", "Theirs"), ("Keep mine", "Mine")])
def test_who_changed_the_same_field_chooses(pair: Pair, choice: str, name: str) -> None:
    form = _edit(pair.here, System_Name="Mine")
    _save(_edit(pair.there, System_Name="Theirs"))
    group = form.get_by_role("group", name="Changed by somebody else")
    expect(group).to_contain_text("It is now Theirs", timeout=SOON_MS)
    expect(form).to_contain_text("BusinessSystemEdited")
    group.get_by_role("button", name=choice).click()
    expect(form.get_by_label("System Name")).to_have_value(name)
    expect(group).to_have_count(0)
    _save(form)
    expect(pair.there.page.get_by_role("article", name=name)).to_be_visible()


def test_a_stale_save_overwrites_nothing(pair: Pair) -> None:
    """Without live changes, as on a bad line."""
    form = _edit(pair.here, System_Name="Mine")
    pair.here.page.evaluate("document.querySelector('#dialog-form > [hx-trigger]').remove()")
    _save(_edit(pair.there, System_Name="Theirs"))
    form.get_by_role("button", name="OK").click()
    expect(form.get_by_role("alert").first).to_contain_text("Somebody else changed this while you were editing.")
    expect(form).to_contain_text("It is now Theirs")
    expect(form.get_by_label("System Name")).to_have_value("Mine")
    expect(pair.there.page.get_by_role("article", name="Theirs")).to_be_visible()


def test_countries_are_merged_too(pair: Pair) -> None:
    for somebody, country in ((pair.there, "Indonesia"), (pair.here, "India")):
        page = somebody.page
        if not page.get_by_role("switch", name="OTP Delivery Scheduling").is_checked():
            page.get_by_role("switch", name="OTP Delivery Scheduling").click()
        page.get_by_role("checkbox", name=country, exact=True).check()
    pair.there.page.get_by_role("button", name="Save", exact=True).click()
    group = pair.here.page.get_by_role("group", name="Changed by somebody else")
    expect(group).to_contain_text("Indonesia", timeout=SOON_MS)
    expect(pair.here.page.get_by_role("checkbox", name="India", exact=True)).to_be_checked()


def test_what_is_entered_while_a_form_is_renewed_stays(pair: Pair) -> None:
    here, there = pair.here.page, pair.there.page
    held: list[Route] = []
    here.route("**/otp-scheduling*", lambda route: held.append(route), times=1)
    for page in (here, there):
        page.get_by_role("switch", name="OTP Delivery Scheduling").click()
    there.get_by_role("checkbox", name="Indonesia", exact=True).check()
    with here.expect_request("**/otp-scheduling*", timeout=SOON_MS):
        there.get_by_role("button", name="Save", exact=True).click()
    here.get_by_role("checkbox", name="India", exact=True).check()
    held[0].continue_()
    group = here.get_by_role("group", name="Changed by somebody else")
    expect(group).to_contain_text("Indonesia", timeout=SOON_MS)
    expect(here.get_by_role("checkbox", name="India", exact=True)).to_be_checked()


def test_a_second_change_while_a_form_is_renewed_is_shown(pair: Pair) -> None:
    here, there = pair.here.page, pair.there.page
    form = _edit(pair.here, System_Name="Mine")
    held: list[Route] = []
    here.route("**/edit*", lambda route: held.append(route), times=1)
    with here.expect_request("**/edit*", timeout=SOON_MS):
        _save(_edit(pair.there, Remarks="First"))
    _save(_edit(pair.there, Remarks="Second"))
    expect(form.get_by_label("Remarks")).to_have_value("Second", timeout=SOON_MS)
    expect(form.get_by_label("System Name")).to_have_value("Mine")
    assert len(held) == 1
    expect(there.get_by_role("article", name="CRM")).to_contain_text("Second")
