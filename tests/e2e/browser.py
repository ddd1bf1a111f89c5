"""A real Chromium for the tests of the console, and a person who uses it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

expect.set_options(timeout=30_000)  # milliseconds; a browser beside other tests may be slow

_REPLACED = ("htmx:sendAbort", "htmx:afterRequest")
NO_BROWSER = "there is no Chromium on this machine"


def chromium_path() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips the test where the machine has none; CI must have one."""
    path = chromium_path()
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{NO_BROWSER}; .ci/run installs it")
        pytest.skip(NO_BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Person:
    """Somebody in a browser of their own. ``problems`` is what the browser complained about, CSP included."""

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)

    def log_on(self, api_key: str) -> None:
        self.page.goto(self.address)
        self.page.get_by_label("API key").fill(api_key)
        self.page.get_by_role("button", name="Log on").click()
        expect(self.page.get_by_role("heading", name="Channel Management")).to_be_visible()

    def visit(self, *path: str) -> None:
        self.page.goto("/".join((self.address, "console", *path)))

    def service_settings(self, channel: str) -> None:
        self.visit("channels", channel, "service-settings")
        self.wait_until_live()

    def wait_until_live(self) -> None:
        """Changes reach the page from here on."""
        expect(self.page.locator("html")).to_have_attribute("data-live", "")


def _is_problem(line: ConsoleMessage) -> bool:
    """Errors, but for a form that was rejected, whose status 4xx a browser reports too, and for a request that a newer
    one replaced."""
    return line.type == "error" and "status of 4" not in line.text and line.text not in _REPLACED


@contextmanager
def person(browser: Browser, address: str, api_key: str, **options: Any) -> Iterator[Person]:
    context: BrowserContext = browser.new_context(locale="en-GB", **options)
    page = context.new_page()
    page.set_default_navigation_timeout(90_000)
    somebody = Person(page, address)
    page.on("console", lambda line: somebody.problems.append(line.text) if _is_problem(line) else None)
    page.on("pageerror", lambda error: somebody.problems.append(str(error)))
    try:
        somebody.log_on(api_key)
        yield somebody
    finally:
        context.close()
