"""Approvals in the console: one person proposes what a form would save, and another one approves or declines it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browser import person
from tests.e2e.shop import register
from tests.installation import Installation, fresh

pytestmark = pytest.mark.timeout(300)  # the first test also pays for the services


def test_a_form_is_proposed_and_approved_by_a_second_person(installation: Installation, browser: Browser) -> None:
    account = fresh("account")
    channel = register(installation, account, "whatsapp")
    keys = installation.api_key(account), installation.api_key(account)
    with (
        person(browser, installation.address, keys[0]) as author,
        person(browser, installation.address, keys[1]) as second,
    ):
        author.service_settings(channel)
        page = author.page
        approvals = page.get_by_role("region", name="Approvals")
        approvals.get_by_label("OTP Delivery Scheduling").check()
        approvals.get_by_role("button", name="Save approvals").click()
        expect(page.get_by_text("What needs an approval is saved.")).to_be_visible()

        page.get_by_role("switch", name="OTP Delivery Scheduling").check()
        page.get_by_label("Indonesia").check()
        otp = page.get_by_role("region", name="OTP Delivery Scheduling")
        otp.get_by_role("button", name="Save").click()
        expect(otp.get_by_role("alert")).to_contain_text("a second person approves changes of otp-scheduling")
        otp.get_by_label("Comment for who approves").fill("For <b>Jakarta</b>")
        otp.get_by_role("button", name="Propose the change").click()
        expect(page.get_by_role("heading", name="Proposed Changes")).to_be_visible()
        proposed = page.get_by_role("article", name="Save OTP delivery scheduling")
        expect(proposed).to_contain_text("waits for approval")
        expect(proposed).to_contain_text("For <b>Jakarta</b>")
        expect(proposed.get_by_role("insertion").filter(has_text="ID")).to_be_visible()
        expect(proposed.get_by_role("button", name="Withdraw")).to_be_visible()
        expect(proposed.get_by_role("button", name="Approve")).to_have_count(0)
        author.wait_until_live()

        second.visit("channels", channel, "proposed-changes")
        second.page.get_by_label("Comment").fill("Agreed")
        second.page.get_by_role("button", name="Approve").click()
        expect(second.page.get_by_text("The change is approved.")).to_be_visible()
        expect(proposed).to_contain_text("carried out")  # in the other browser
        expect(proposed).to_contain_text("Agreed")

        author.service_settings(channel)
        expect(page.get_by_role("list", name="Chosen countries/regions")).to_contain_text("Indonesia")
        approvals.get_by_label("OTP Delivery Scheduling").uncheck()
        approvals.get_by_role("button", name="Save approvals").click()
        approvals.get_by_role("button", name="Propose the change").click()
        expect(page.get_by_role("article", name="Save what needs an approval")).to_be_visible()
        stale = second.page
        second.visit("channels", channel, "proposed-changes")
        expect(stale.get_by_role("button", name="Approve")).to_be_visible()
        page.get_by_role("button", name="Withdraw").click()
        expect(page.get_by_text("The change is declined.")).to_be_visible()
        second.visit("channels", channel, "proposed-changes")
        expect(stale.get_by_text("No change waits for anybody.")).to_be_visible()
        assert (author.problems, second.problems) == ([], [])
