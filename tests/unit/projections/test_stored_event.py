"""The section that a stored event leaves, as JSON."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pydantic_core import to_json

from contracts.approvals import ApprovalsSaved
from contracts.message_types import EVENTS
from contracts.otp_scheduling import OtpSchedulingSaved
from contracts.section import SectionEvent
from contracts.sms import SmsActivated, SmsDeactivated
from contracts.spend_guard import SavedMaxRate, SpendGuardSaved
from projections.events import SECTION_EVENTS, StoredEvent

_EXAMPLES = (
    SmsActivated(),
    SmsDeactivated(),
    OtpSchedulingSaved(enabled=True, countries=("ID", "IN"), use_own_numbers=True),
    OtpSchedulingSaved(enabled=False, countries=(), use_own_numbers=False, international_rates_acknowledged=True),
    SpendGuardSaved(mode="enforce", max_rate=SavedMaxRate(amount="0.05", currency="AED")),
    ApprovalsSaved(required_for=("retire", "signature")),
    SpendGuardSaved(mode="off", daily_messages_per_country=7),
)


def _stored(kind: str, data: bytes) -> StoredEvent:
    resource: str = EVENTS[kind].resource if kind in EVENTS else "read-receipts"  # type: ignore[attr-defined]
    return StoredEvent(kind, "c", "2026-07-01T12:00:00.000Z", "a", 2, 2, resource, msgspec.Raw(data))


def test_every_event_of_a_section_has_an_example() -> None:
    assert {type(event).__name__ for event in _EXAMPLES} == SECTION_EVENTS


@pytest.mark.parametrize(
    "event", _EXAMPLES, ids=["sms-on", "sms-off", "otp-on", "otp-off", "guard-rate", "approvals", "guard-count"]
)
def test_the_section_is_the_one_that_the_contract_derives_from_the_event(event: SectionEvent) -> None:
    section = _stored(type(event).__name__, event.model_dump_json().encode()).section()
    # Compared as text: a tuple in place of a list would make the history see a change where there is none.
    assert repr(section) == repr(event.section().model_dump(mode="json"))


def test_fields_of_a_newer_contract_are_left_out_and_missing_ones_have_their_defaults() -> None:
    section = _stored("OtpSchedulingSaved", to_json({"enabled": True, "quiet_hours": [1]})).section()
    assert section == {"enabled": True, "countries": [], "use_own_numbers": False}


@pytest.mark.parametrize("wrong", [{"enabled": 1}, {"countries": "ID"}, {"countries": [1]}])
def test_a_field_of_a_wrong_type_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        _stored("OtpSchedulingSaved", to_json(wrong)).section()


def test_an_event_of_an_unknown_type_has_no_section() -> None:
    assert _stored("ReadReceiptsActivated", b"{}").section() is None
