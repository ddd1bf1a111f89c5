"""Each message knows the resource that it changes."""

from __future__ import annotations

import pytest

from contracts.business_system import BusinessSystemDeleted, OpenBusinessSystem
from contracts.channel import ChannelRetired, RegisterChannel
from contracts.intent import DeleteIntent, IntentDeleted
from contracts.message_types import COMMANDS, EVENTS, Command, Event
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.resources import on_same_path
from contracts.signature import RefreshSignature, SignatureRevoked
from contracts.sms import SmsActivated, ToggleSms


def test_the_resource_of_a_message() -> None:
    messages: list[tuple[Command | Event, str]] = [
        (RegisterChannel(channel_type="line", name="Shop", enterprise_authenticated=True), "channel"),
        (ChannelRetired(), "channel"),
        (ToggleSms(enabled=True), "sms"),
        (SmsActivated(), "sms"),
        (SaveOtpScheduling(enabled=False, countries=[], use_own_numbers=False), "otp-scheduling"),
        (OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://x.example"), "business-systems/crm"),
        (BusinessSystemDeleted(system="crm"), "business-systems/crm"),
        (RefreshSignature(system="crm"), "business-systems/crm/signature"),
        (SignatureRevoked(system="crm", key_id="1"), "business-systems/crm/signature"),
        (DeleteIntent(system="crm", code="ORDER"), "business-systems/crm/intents/ORDER"),
        (IntentDeleted(system="crm", code="ORDER"), "business-systems/crm/intents/ORDER"),
    ]
    assert [message.resource for message, _ in messages] == [resource for _, resource in messages]


@pytest.mark.parametrize("kind", [*COMMANDS.values(), *EVENTS.values()], ids=lambda kind: kind.__name__)
def test_every_message_type_has_a_resource_that_is_no_field(kind: type) -> None:
    assert hasattr(kind, "resource")
    assert "resource" not in kind.model_fields  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("sms", "sms", True),
        ("business-systems/crm", "business-systems/crm/intents/ORDER", True),
        ("business-systems/crm/signature", "business-systems/crm", True),
        ("business-systems/crm", "business-systems/crm2", False),
        ("business-systems/crm/signature", "business-systems/crm/intents/ORDER", False),
    ],
)
def test_resources_on_the_same_path(left: str, right: str, same: bool) -> None:  # noqa: FBT001
    assert on_same_path(left, right) is same
    assert on_same_path(right, left) is same
