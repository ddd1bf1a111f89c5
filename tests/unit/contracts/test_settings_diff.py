"""The diff of settings: which leaves there are, which of them differ, and that one resource is told as the whole is."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.otp_scheduling import OtpSchedulingSettings
from contracts.settings import BusinessSystemSettings, ChannelSettings, IntentSettings, SignatureSettings
from contracts.settings_diff import (
    MISSING,
    Path,
    diff,
    leaves_of,
    resource_diff,
    resource_leaves,
    settings_diff,
)
from contracts.sms import SmsSettings

REGISTERED = ChannelSettings(channel="shop", account="a", channel_type="whatsapp", name="Shop", version=1)
INTENT = IntentSettings(code="ORDER", name="Order", default_data={"n": 1}, json_schema=None, templates=("t1",))
SYSTEM = BusinessSystemSettings(
    system="crm",
    name="CRM",
    api_request_url="https://crm.example",
    signatures=(SignatureSettings(key_id="crm-1", fingerprint="f", issued_at="2026-11-26T08:00:00Z"),),
    intents=(INTENT,),
)
OPENED = REGISTERED.model_copy(update={"business_systems": (SYSTEM,)})
NO_FORM = {"enabled": False, "countries": [], "use_own_numbers": False}
FORM = {"enabled": True, "countries": ["ID", "IN"], "use_own_numbers": False}


def _with_intent(**changes: Any) -> ChannelSettings:
    system = SYSTEM.model_copy(update={"intents": (INTENT.model_copy(update=changes),)})
    return REGISTERED.model_copy(update={"business_systems": (system,)})


def test_the_leaves_of_a_channel() -> None:
    assert leaves_of(OPENED) == {
        ("channel", "name"): "Shop",
        ("channel", "provider"): None,
        ("channel", "retired"): False,
        ("channel", "home_country"): None,
        ("channel", "international_rates_from"): None,
        ("sms", "enabled"): False,
        ("otp-scheduling",): NO_FORM,
        ("approvals", "required_for"): [],
        ("spend-guard",): {"mode": "off", "max_rate": None, "daily_messages_per_country": None},
        ("business-systems", "crm"): True,
        ("business-systems", "crm", "name"): "CRM",
        ("business-systems", "crm", "api_request_url"): "https://crm.example",
        ("business-systems", "crm", "remarks"): "",
        ("business-systems", "crm", "signature_style"): "standard-webhooks",
        ("business-systems", "crm", "disabled"): False,
        ("business-systems", "crm", "signatures"): ["crm-1"],
        ("business-systems", "crm", "intents", "ORDER"): True,
        ("business-systems", "crm", "intents", "ORDER", "name"): "Order",
        ("business-systems", "crm", "intents", "ORDER", "default_data"): {"n": 1},
        ("business-systems", "crm", "intents", "ORDER", "schema"): None,
        ("business-systems", "crm", "intents", "ORDER", "templates"): ["t1"],
    }


CHANGES: dict[str, tuple[ChannelSettings, ChannelSettings, dict[Path, tuple[Any, Any]]]] = {
    "nothing": (OPENED, OPENED, {}),
    "the version is no setting": (OPENED, OPENED.model_copy(update={"version": 9}), {}),
    "a section with one field": (
        REGISTERED,
        REGISTERED.model_copy(update={"sms": SmsSettings(enabled=True)}),
        {("sms", "enabled"): (False, True)},
    ),
    "a section with several fields is one leaf": (
        REGISTERED,
        REGISTERED.model_copy(update={"otp_scheduling": OtpSchedulingSettings(enabled=True, countries=("ID", "IN"))}),
        {("otp-scheduling",): (NO_FORM, FORM)},
    ),
    "an intent's data is one leaf": (
        OPENED,
        _with_intent(default_data={"n": 1, "m": 2}),
        {("business-systems", "crm", "intents", "ORDER", "default_data"): ({"n": 1}, {"n": 1, "m": 2})},
    ),
    "a number of another type is another": (
        OPENED,
        _with_intent(default_data={"n": 1.0}),
        {("business-systems", "crm", "intents", "ORDER", "default_data"): ({"n": 1}, {"n": 1.0})},
    ),
    "no provider, and then one": (
        REGISTERED,
        REGISTERED.model_copy(update={"provider": "acme"}),
        {("channel", "provider"): (None, "acme")},
    ),
}


@pytest.mark.parametrize(("before", "after", "expected"), CHANGES.values(), ids=list(CHANGES))
def test_what_differs(before: ChannelSettings, after: ChannelSettings, expected: dict[Path, tuple[Any, Any]]) -> None:
    assert settings_diff(before, after) == expected
    assert settings_diff(after, before) == {path: (now, was) for path, (was, now) in expected.items()}


def test_a_system_that_is_opened_shows_all_of_its_leaves_sorted() -> None:
    changes = settings_diff(REGISTERED, OPENED)
    assert list(changes) == sorted(path for path in leaves_of(OPENED) if path[0] == "business-systems")
    assert all(change.before is MISSING for change in changes.values())


def test_a_channel_that_does_not_exist_has_no_leaves() -> None:
    assert settings_diff(None, None) == {}
    assert {path: change.after for path, change in settings_diff(None, OPENED).items()} == leaves_of(OPENED)


SYSTEM_FIELDS = {"name": "CRM", "disabled": False, "signatures": ["crm-1"]}


@pytest.mark.parametrize(
    ("resource", "before", "after"),
    [
        ("sms", {"enabled": False}, {"enabled": True}),
        ("sms", None, {"enabled": False}),
        ("otp-scheduling", NO_FORM, FORM),
        ("otp-scheduling", FORM, dict(FORM)),
        ("otp-scheduling", None, NO_FORM),
        ("business-systems/crm", SYSTEM_FIELDS, {**SYSTEM_FIELDS, "disabled": True, "signatures": ["crm-2", "crm-1"]}),
        ("business-systems/crm", SYSTEM_FIELDS, None),
        ("business-systems/crm", None, None),
        ("business-systems/crm/intents/ORDER", {"name": "Order"}, {"name": "Order", "templates": []}),
    ],
)
def test_the_diff_of_one_resource_is_that_of_its_leaves(
    resource: str, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    leaves = [{} if fields is None else resource_leaves(resource, fields) for fields in (before, after)]
    changes = resource_diff(resource, before, after)
    assert changes == diff(*leaves)
    assert list(changes) == sorted(changes)
