"""A section's settings, the command that saves them and the event that changes them are one another's inverse."""

from __future__ import annotations

import pytest

from contracts.approvals import ApprovalsSaved, ApprovalsSettings, SaveApprovals
from contracts.message_types import COMMANDS, EVENTS
from contracts.otp_scheduling import OtpSchedulingSaved, OtpSchedulingSettings, SaveOtpScheduling
from contracts.section import SectionEvent, SectionSettings
from contracts.settings import SECTIONS
from contracts.sms import SmsActivated, SmsDeactivated, SmsSettings, ToggleSms
from contracts.spend_guard import MaxRate, SavedMaxRate, SaveSpendGuard, SpendGuardSaved, SpendGuardSettings


def test_the_sections_are_the_fields_of_the_settings() -> None:
    assert {
        "sms": SmsSettings,
        "otp_scheduling": OtpSchedulingSettings,
        "spend_guard": SpendGuardSettings,
        "approvals": ApprovalsSettings,
    } == SECTIONS


@pytest.mark.parametrize("section", SECTIONS.values(), ids=list(SECTIONS))
def test_a_command_saves_the_defaults_of_each_section(section: type[SectionSettings]) -> None:
    command = section().save_command()
    assert type(command) in COMMANDS.values()
    assert command.resource == section.resource  # type: ignore[attr-defined]


def test_every_section_has_its_events() -> None:
    events = [event for event in EVENTS.values() if issubclass(event, SectionEvent)]
    assert {event.resource for event in events} == {section.resource for section in SECTIONS.values()}


def test_the_sms_section() -> None:
    assert SmsSettings(enabled=True).save_command() == ToggleSms(enabled=True)
    assert SmsActivated().section() == SmsSettings(enabled=True)
    assert SmsDeactivated().section() == SmsSettings() == SmsSettings(enabled=False)


def test_the_otp_scheduling_section() -> None:
    saved = OtpSchedulingSaved(
        enabled=True, countries=("ID", "IN"), use_own_numbers=True, international_rates_acknowledged=True
    )
    settings = OtpSchedulingSettings(enabled=True, countries=("ID", "IN"), use_own_numbers=True)
    assert saved.section() == settings
    assert settings.save_command() == SaveOtpScheduling(enabled=True, countries=["ID", "IN"], use_own_numbers=True)


def test_the_spend_guard_section() -> None:
    most = MaxRate(amount="0.05", currency="AED")
    saved = SpendGuardSaved(mode="enforce", max_rate=SavedMaxRate(amount="0.05", currency="AED"))
    settings = SpendGuardSettings(mode="enforce", max_rate=most)
    assert saved.section() == settings
    assert settings.save_command() == SaveSpendGuard(mode="enforce", max_rate=most)
    written_otherwise = settings.model_copy(update={"max_rate": MaxRate(amount="0.0500", currency="AED")})
    assert written_otherwise.canonical() == settings


def test_the_approvals_section() -> None:
    settings = ApprovalsSettings(required_for=("retire", "signature"))
    assert ApprovalsSaved(required_for=("retire", "signature")).section() == settings
    assert settings.save_command() == SaveApprovals(required_for=["retire", "signature"])
    assert ApprovalsSettings(required_for=("signature", "retire", "signature")).canonical() == settings
