"""Logging on to the console at a real issuer, in a real browser, which has its own rules of cookies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page, expect

from services.cli.service_child import Child
from services.infrastructure.embedded.process import free_port
from tests.e2e.browser import chromium
from tests.e2e.shop import register
from tests.installation import Installation, fresh, run_apart
from tests.oidc_provider import OidcProvider, configured

pytestmark = pytest.mark.timeout(300)  # the first test also pays for the services


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[OidcProvider]:
    """On another site than the gateway: a browser tells sites apart by their names, not by their ports."""
    with OidcProvider(tmp_path, "localhost") as provider:
        yield provider


@pytest.fixture
def address(installation: Installation, provider: OidcProvider, tmp_path: Path) -> Iterator[str]:
    """Of a gateway that trusts the issuer."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    file = tmp_path / "oidc.yaml"
    file.write_text(yaml.safe_dump(configured(provider.issuer) | {"console_url": address}))
    variables = {"SWITCHBOARD_HTTP_PORT": str(port), "SWITCHBOARD_OIDC_FILE": str(file)}
    environment = installation.environment_of("gateway") | variables
    gateway = Child("gateway", environment, tmp_path / "gateway.log")
    gateway.start()
    try:
        gateway.wait_until_ready()
        yield address
        assert "eyJ" not in (tmp_path / "gateway.log").read_text()
    finally:
        gateway.stop()
        gateway.wait()


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium() as browser, browser.new_context() as context:
        yield context.new_page()


def consent(page: Page, subject: str) -> None:
    """Logs on at the issuer, which asks for a name alone."""
    page.get_by_placeholder("sub").fill(subject)
    page.get_by_role("button", name="Authorize").click()


def test_somebody_logs_on_at_the_issuer_and_off_everywhere(provider: OidcProvider, address: str, page: Page) -> None:
    subject = fresh("alice")
    run_apart(provider.set_claims(subject, name="Alice Example", groups=["tenants"], tenant=fresh("account")))
    page.goto(f"{address}/console/history")
    page.get_by_role("link", name="Log on with Example").click()
    consent(page, subject)
    expect(page.get_by_role("heading", name="History")).to_be_visible()
    expect(page).to_have_url(f"{address}/console/history")
    expect(page.get_by_text("Alice Example")).to_be_visible()
    [session] = page.context.cookies(address)
    assert (session["name"], session["httpOnly"], session["sameSite"]) == ("switchboard-session", True, "Strict")
    page.get_by_role("button", name="Log off everywhere").click()
    expect(page.get_by_role("link", name="Log on with Example")).to_be_visible()
    assert page.context.cookies(address) == []


def test_a_session_that_ends_loses_no_input(
    installation: Installation, provider: OidcProvider, address: str, page: Page
) -> None:
    subject, account = fresh("bob"), fresh("account")
    channel = register(installation, account, "whatsapp")
    run_apart(provider.set_claims(subject, groups=["tenants"], tenant=account))
    page.goto(f"{address}/console/channels/{channel}/service-settings/open-business-system")
    page.get_by_role("link", name="Log on with Example").click()
    consent(page, subject)
    dialog = page.get_by_role("dialog", name="Open Business System")
    dialog.get_by_label("System Name").fill("CRM")
    dialog.get_by_label("API Request URL").fill("https://crm.example/hook")
    page.context.clear_cookies()
    dialog.get_by_role("button", name="OK").click()
    again = page.get_by_role("dialog", name="Your session has ended")
    with page.expect_popup() as window:
        again.get_by_role("link", name="Log on with Example").click()
    consent(window.value, subject)
    expect(window.value.get_by_role("heading", name="Channel Management")).to_be_visible()
    again.get_by_role("button", name="I have logged on").click()
    expect(again).to_have_count(0)
    expect(dialog.get_by_label("System Name")).to_have_value("CRM")
    dialog.get_by_role("button", name="OK").click()
    expect(page.get_by_role("article", name="CRM")).to_be_visible()
