"""Messages, usage, deliveries and the comparison of two moments, on a channel that everything has happened to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from playwright.sync_api import Browser, expect

from contracts.business_system import OpenBusinessSystem
from contracts.signature import RefreshSignature
from tests.e2e.browser import Person, person
from tests.e2e.furnished import MALAYSIAN, Furnished, furnish
from tests.e2e.shop import register, send
from tests.installation import Installation, fresh

pytestmark = pytest.mark.timeout(300)  # the first test also pays for the services


@pytest.fixture(scope="module")
def account() -> str:
    return fresh("account")


@pytest.fixture(scope="module")
def furnished(installation: Installation, account: str) -> Furnished:
    return furnish(installation, account)


@pytest.fixture
def somebody(installation: Installation, browser: Browser, account: str) -> Iterator[Person]:
    with person(browser, installation.address, installation.api_key(account)) as found:
        yield found
        assert found.problems == []


def test_a_message_shows_why_it_went_where_it_did(somebody: Person, furnished: Furnished) -> None:
    page = somebody.page
    somebody.visit("channels", furnished.channel, "messages")
    expect(page.get_by_role("row")).to_have_count(4)  # with the head
    page.get_by_label("Route").select_option("not sent")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("row").nth(1)).to_contain_text("United Arab Emirates")
    assert "route=failed" in page.url
    page.get_by_label("Route").select_option("scheduled")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="otp-1001").click()
    timeline = page.get_by_role("region", name="Timeline").get_by_role("listitem")
    expect(timeline.nth(0)).to_contain_text("Route asked for")
    expect(timeline.filter(has_text="No SMS follows")).to_contain_text("Delivered")
    expect(page.get_by_text("scheduled", exact=True)).to_be_visible()

    page.get_by_role("link", name="Usage").click()
    expect(page.get_by_role("row", name="Malaysia")).to_contain_text("1")
    expect(page.get_by_role("img", name="Messages per day and country")).to_be_visible()


def test_the_dry_run_of_a_number(somebody: Person, furnished: Furnished) -> None:
    page = somebody.page
    somebody.visit("channels", furnished.channel, "messages")
    run = page.get_by_role("region", name="Try a number")
    run.get_by_label("Recipient").fill("<b>60")
    run.get_by_role("button", name="Dry run").click()
    expect(run.get_by_role("alert")).to_contain_text("it must be an E.164 number")
    run.get_by_label("Recipient").fill(MALAYSIAN)
    run.get_by_role("button", name="Dry run").click()
    expect(run.get_by_role("status")).to_contain_text("Malaysia")
    assert MALAYSIAN.removeprefix("+") not in page.url
    somebody.visit("channels", furnished.channel, "messages")
    expect(page.get_by_role("row")).to_have_count(4)  # nothing was kept


def test_two_moments_are_compared_and_a_slider_goes_through_time(somebody: Person, furnished: Furnished) -> None:
    page = somebody.page
    somebody.visit("channels", furnished.channel, "history")
    page.get_by_role("link", name="Compare two moments").click()
    earlier = page.get_by_role("slider", name="Version of Earlier")
    earlier.fill("1")
    compared = page.locator("#compared")
    expect(compared).to_contain_text("from 1 to")
    expect(compared).to_contain_text("SMS was activated")
    assert "from=1" in page.url
    page.reload()
    expect(page.get_by_label("Earlier", exact=True)).to_have_value("1")
    page.get_by_label("Later", exact=True).fill("yesterday")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("'yesterday' is neither a version")).to_be_visible()


def test_calls_that_failed_are_chosen_by_reason_and_sent_again(somebody: Person, furnished: Furnished) -> None:
    page = somebody.page
    somebody.visit("channels", furnished.channel, "deliveries?reason=EndpointGone")
    expect(page.get_by_label(f"Choose {furnished.delivery}")).to_have_count(0)
    somebody.visit("channels", furnished.channel, "deliveries")
    page.get_by_role("link", name="RetriesExhausted").click()
    assert "reason=RetriesExhausted" in page.url
    again = page.get_by_role("button", name="Send the chosen calls again")
    again.click()
    expect(page.get_by_text("Choose at least one call.")).to_be_visible()
    page.get_by_label(f"Choose {furnished.delivery}").check()
    again.click()
    expect(page.get_by_text("1 call is sent again.")).to_be_visible()
    somebody.visit("channels", furnished.channel, "deliveries", furnished.delivery)
    expect(page.get_by_text("1 × · api-key:")).to_be_visible()


def test_an_old_signature_waits_for_the_proof_of_the_new_one(somebody: Person, furnished: Furnished) -> None:
    page = somebody.page
    somebody.visit("channels", furnished.channel, "service-settings", "business-systems", "crm", "signature")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("It can be retired once the receiver accepts")).to_be_visible()
    expect(dialog.get_by_role("button", name="Retire")).to_have_count(0)


@contextmanager
def _receiver(port: int) -> Iterator[None]:
    """Accepts every call."""

    class Accepts(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", port), Accepts) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def test_an_old_signature_is_retired_once_the_receiver_accepts_the_new_one(
    installation: Installation, somebody: Person, account: str
) -> None:
    page, port, channel = somebody.page, installation.receiver_port(), register(installation, account, "viber")
    system = OpenBusinessSystem(system="crm", name="CRM", api_request_url=f"http://127.0.0.1:{port}/hook")
    send(installation, account, channel, [system, RefreshSignature(system="crm")])
    path = "channels", channel, "service-settings", "business-systems", "crm"
    somebody.visit(*path, "test-call")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Signed with").select_option(index=1)
    with _receiver(port):
        dialog.get_by_role("button", name="Make test call").click()
        expect(dialog.get_by_text("HTTP 204")).to_be_visible()
    somebody.visit(*path, "signature")
    expect(dialog.get_by_role("listitem")).to_have_count(2)
    dialog.get_by_role("button", name="Retire").click()
    expect(page.get_by_text("The old signature is retired.")).to_be_visible()
    expect(dialog.get_by_role("listitem")).to_have_count(1)
