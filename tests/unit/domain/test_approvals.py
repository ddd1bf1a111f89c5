"""Approvals: which commands a second person must approve, on a channel that wants it."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.approval_rejections import ApprovalRequired
from contracts.approvals import ApprovalsSaved, SaveApprovals
from contracts.business_system import (
    BusinessSystemDisabled,
    BusinessSystemEdited,
    DeleteBusinessSystem,
    DisableBusinessSystem,
    EditBusinessSystem,
    EnableBusinessSystem,
)
from contracts.channel import ChannelEdited, EditChannel, RetireChannel
from contracts.message import CommandData
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.signature import RefreshSignature, RevealSignature, RevokeSignature
from contracts.sms import SmsActivated, ToggleSms
from services.domain.decision import Decision
from tests.unit.domain.given import Scenario, given
from tests.unit.domain.histories import OPEN_CRM, OPEN_ERP, SEAL_TO, WHATSAPP, draft

FORM = SaveOtpScheduling(enabled=True, countries=["ID"], use_own_numbers=False)
EVERYTHING = ("business-systems", "otp-scheduling", "retire", "signature")


def approvals(*required_for: Any) -> SaveApprovals:
    return SaveApprovals(required_for=list(required_for))


def required(*sections: str) -> ApprovalRequired:
    return ApprovalRequired(sections=list(sections))


SCENARIOS: dict[str, Scenario] = {
    "at first none are required": given(WHATSAPP).when(approvals()).then(),
    "they are a set": given(WHATSAPP)
    .when(approvals("signature", "retire", "signature"))
    .then(ApprovalsSaved(required_for=("retire", "signature"))),
    "the same again changes nothing, and needs nobody": given(WHATSAPP, approvals("retire", "signature"))
    .when(approvals("signature", "retire"))
    .then(),
    "once on, switching them off needs one": given(WHATSAPP, approvals("retire"))
    .when(approvals())
    .then(required("approvals")),
    "and so does switching on another": given(WHATSAPP, approvals("retire"))
    .when(approvals("retire", "signature"))
    .then(required("approvals")),
    "the form": given(WHATSAPP, approvals("otp-scheduling")).when(FORM).then(required("otp-scheduling")),
    "a form that changes nothing needs nobody": given(WHATSAPP, FORM, approvals("otp-scheduling")).when(FORM).then(),
    "retiring": given(WHATSAPP, approvals("retire")).when(RetireChannel()).then(required("retire")),
    "opening": given(WHATSAPP, approvals("business-systems")).when(OPEN_CRM).then(required("business-systems")),
    "editing": given(WHATSAPP, OPEN_CRM, approvals("business-systems"))
    .when(EditBusinessSystem(system="crm", remarks="new"))
    .then(required("business-systems")),
    "deleting": given(WHATSAPP, OPEN_CRM, approvals("business-systems"))
    .when(DeleteBusinessSystem(system="crm"))
    .then(required("business-systems")),
    "deleting deletes its signatures too, which opening it again would replace": given(
        WHATSAPP, OPEN_CRM, approvals("signature")
    )
    .when(DeleteBusinessSystem(system="crm"))
    .then(required("signature")),
    "enabling": given(WHATSAPP, OPEN_CRM, DisableBusinessSystem(system="crm"), approvals("business-systems"))
    .when(EnableBusinessSystem(system="crm"))
    .then(required("business-systems")),
    "disabling stops calls, and waits for nobody": given(WHATSAPP, OPEN_CRM, approvals(*EVERYTHING))
    .when(DisableBusinessSystem(system="crm"))
    .then(BusinessSystemDisabled(system="crm", reason=None)),
    "refreshing": given(WHATSAPP, OPEN_CRM, approvals("signature"))
    .when(RefreshSignature(system="crm"))
    .then(required("signature")),
    "revoking": given(WHATSAPP, OPEN_CRM, RefreshSignature(system="crm"), approvals("signature"))
    .when(RevokeSignature(system="crm", key_id="key-1"))
    .then(required("signature")),
    "an edit that draws a new signature changes the signature": given(WHATSAPP, OPEN_CRM, approvals("signature"))
    .when(EditBusinessSystem(system="crm", signature_style="plain-token"))
    .then(required("signature")),
    "an edit that does not, does not": given(WHATSAPP, OPEN_CRM, approvals("signature"))
    .when(EditBusinessSystem(system="crm", remarks="new"))
    .then(BusinessSystemEdited(system="crm", remarks="new")),
    "other settings need nobody": given(WHATSAPP, approvals(*EVERYTHING))
    .when(ToggleSms(enabled=True))
    .then(SmsActivated()),
    "nor does the channel's name": given(WHATSAPP, approvals(*EVERYTHING))
    .when(EditChannel(name="Store"))
    .then(ChannelEdited(name="Store")),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_approvals(scenario: Scenario) -> None:
    scenario.check()


@pytest.mark.parametrize(
    ("before", "command"),
    [
        ((), draft()),
        ((draft(),), RevokeSignature(system="crm", key_id="key-1")),
        ((), OPEN_ERP),
        ((OPEN_CRM,), RevealSignature(system="crm", seal_to=SEAL_TO)),
    ],
    ids=["drawing a draft", "revoking a draft", "opening with a first signature", "revealing"],
)
def test_what_changes_no_signature_of_an_open_system_needs_nobody(
    before: tuple[CommandData, ...], command: CommandData
) -> None:
    assert isinstance(given(WHATSAPP, *before, approvals("signature")).when(command).decided(), Decision)
