"""A change is told in the past where it happened, and as what a plan would do where it did not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from contracts.settings_diff import Leaves
from services.audit.timeline.sentences import describe_changes

FORM: dict[str, Any] = {"enabled": False, "countries": ["BE"], "use_own_numbers": False}
BEFORE: Leaves = {
    ("channel", "name"): "Shop",
    ("sms", "enabled"): False,
    ("otp-scheduling",): FORM,
    ("spend-guard",): {"mode": "off", "max_rate": None, "daily_messages_per_country": None},
    ("approvals", "required_for"): [],
    ("business-systems", "crm"): True,
    ("business-systems", "crm", "disabled"): False,
    ("business-systems", "crm", "intents", "ORDER"): True,
    ("business-systems", "crm", "intents", "ORDER", "templates"): ["old"],
}
MOST = {"amount": "0.05", "currency": "AED"}
TEMPLATES = ("business-systems", "crm", "intents", "ORDER", "templates")


@pytest.mark.parametrize(
    ("change", "happened", "planned"),
    [
        ({("sms", "enabled"): True}, "SMS was activated.", "Would activate SMS."),
        (
            {("channel", "name"): "Store"},
            'The channel\'s name changed from "Shop" to "Store".',
            'Would change the channel\'s name from "Shop" to "Store".',
        ),
        (
            {("channel", "home_country"): "AE"},
            'The channel\'s home country changed from nothing to "AE".',
            'Would change the channel\'s home country from nothing to "AE".',
        ),
        (
            {("otp-scheduling",): {"enabled": True, "countries": ["NL"], "use_own_numbers": True}},
            "OTP delivery scheduling was switched on, gained NL, lost BE, now uses own numbers.",
            "OTP delivery scheduling would be switched on, gain NL, lose BE, now use own numbers.",
        ),
        (
            {("spend-guard",): {"mode": "enforce", "max_rate": MOST, "daily_messages_per_country": 1000}},
            "The spend guard was set to enforce, at most 0.05 AED a message and 1,000 messages a day to a country.",
            "Would set the spend guard to enforce, at most 0.05 AED a message and 1,000 messages a day to a country.",
        ),
        (
            {("spend-guard",): {"mode": "off", "max_rate": None, "daily_messages_per_country": 5}},
            "The spend guard was set to off, at most 5 messages a day to a country.",
            "Would set the spend guard to off, at most 5 messages a day to a country.",
        ),
        (
            {("approvals", "required_for"): ["retire", "signature"]},
            "An approval is needed for changes of retire, signature.",
            "Would need an approval for changes of retire, signature.",
        ),
        (
            {("business-systems", "crm", "disabled"): True},
            "Business system 'crm' was disabled.",
            "Would disable business system 'crm'.",
        ),
        (
            {("business-systems", "crm", "intents", "BILL"): True},
            "Intent 'BILL' of business system 'crm' was added.",
            "Would add intent 'BILL' of business system 'crm'.",
        ),
        (
            {TEMPLATES: ["new"]},
            "Intent 'ORDER' of business system 'crm' is used by new and is no longer used by old.",
            "Intent 'ORDER' of business system 'crm' would be used by new and would no longer be used by old.",
        ),
        (
            {("read-receipts", "enabled"): True},
            "The field 'enabled' of read-receipts changed from nothing to true.",
            "Would change the field 'enabled' of read-receipts from nothing to true.",
        ),
    ],
)
def test_a_change_in_words(change: Leaves, happened: str, planned: str) -> None:
    after = BEFORE | change
    assert describe_changes(BEFORE, after) == [happened]
    assert describe_changes(BEFORE, after, planned=True) == [planned]


def processor_seconds_to_tell_of_added_intents(count: int) -> float:
    codes = [("business-systems", "crm", "intents", f"CODE_{number}") for number in range(count)]
    after = BEFORE | dict.fromkeys(codes, True) | {(*code, "name"): "Order" for code in codes}
    taken = []
    for _ in range(3):
        began = time.process_time()
        assert len(describe_changes(BEFORE, after)) == count
        taken.append(time.process_time() - began)
    return min(taken)


def test_telling_takes_time_in_proportion_to_the_changes() -> None:
    few, many = map(processor_seconds_to_tell_of_added_intents, (500, 4_000))

    assert many / few < 24, "eight times as many"
