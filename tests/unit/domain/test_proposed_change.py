"""Proposed changes: nothing is carried out without a second person, nor after anything on its path changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from contracts.approval_rejections import (
    ActorMissing,
    AuthorCannotApprove,
    ChangeAlreadyProposed,
    ChangeDecided,
    ChangeNotApproved,
    ChangeNotDue,
    ChangeUnknown,
    InstantHasPassed,
    ReplacedByAnother,
    TooManyProposedChanges,
)
from contracts.approvals import ApprovalsSaved
from contracts.channel import ChannelRetired, RetireChannel
from contracts.envelope import content_digest
from contracts.message import CommandData
from contracts.otp_scheduling import OtpSchedulingSaved, SaveOtpScheduling
from contracts.proposed_change import (
    ApplyChange,
    ApproveChange,
    ChangeApplied,
    ChangeApproved,
    ChangeDeclined,
    ChangeProposed,
    ChangeVoided,
    DeclineChange,
    ProposeChange,
    RecordedCommand,
)
from contracts.rejections import ChannelIsRetired, OtpSchedulingNeedsCountries, VersionConflict
from contracts.signature import RefreshSignature
from services.domain.decision import Decision
from services.domain.state import PROPOSED_CHANGES_LIMIT, REMEMBERED_CHANGES
from tests.unit.domain.given import CHANNEL, By, Later, Scenario, Story, at, given
from tests.unit.domain.histories import OPEN_CRM, OPEN_ERP, WHATSAPP, refreshed
from tests.unit.domain.test_approvals import FORM, approvals

ANNA, BERT, CARL = "anna@acme.example", "bert@acme.example", "carl@acme.example"
OTHER_FORM = SaveOtpScheduling(enabled=True, countries=["IN"], use_own_numbers=False)
REFRESH = RefreshSignature(system="crm")
OFF: dict[str, Any] = {"enabled": False, "countries": [], "use_own_numbers": False}
ON = (WHATSAPP, approvals("otp-scheduling", "retire", "signature"))
"""Version 2."""


def propose(command: CommandData, change: str = "c-1", actor: str = ANNA, **more: Any) -> By:
    data = command.model_dump(exclude_unset=True)
    proposed = {"type": type(command).__name__, "data": data}
    return By(actor, ProposeChange.model_validate({"change": change, "command": proposed, **more}))


def approve(change: str = "c-1", actor: str = BERT) -> By:
    return By(actor, ApproveChange(change=change))


def by_key(step: By, owner: str) -> By:
    """The same, by a key that belongs to somebody."""
    return replace(step, owner=owner)


def form_proposed(change: str = "c-1", **more: Any) -> ChangeProposed:
    data = FORM.model_dump()
    data.pop("international_rates_acknowledged")
    return ChangeProposed(
        change=change,
        proposed_by=ANNA,
        affects="otp-scheduling",
        command=RecordedCommand(type="SaveOtpScheduling", data=data),
        digest=content_digest("SaveOtpScheduling", data, dry_run=False).decode(),
        expected_version=2,
        before={"otp-scheduling": OFF},
        after={"otp-scheduling": OFF | {"enabled": True, "countries": ["ID"]}},
        **more,
    )


def form_approved(**more: Any) -> ChangeApproved:
    return ChangeApproved(change="c-1", approved_by=BERT, digest=form_proposed().digest, expected_version=2, **more)


APPLIED = ChangeApplied(change="c-1", proposed_by=ANNA, approved_by=BERT)
SAVED = OtpSchedulingSaved(
    enabled=True, countries=("ID",), use_own_numbers=False, international_rates_acknowledged=False
)
LATER = {"at": at(60)}

SCENARIOS: dict[str, Scenario] = {
    "a change is proposed with its difference": given(*ON)
    .when(propose(FORM, comment="for Jakarta"))
    .then(form_proposed(comment="for Jakarta")),
    "and carried out once another person approves it": given(*ON, propose(FORM))
    .when(approve())
    .then(form_approved(), APPLIED, SAVED),
    "so the approvals themselves are switched off": given(*ON, propose(approvals()))
    .when(approve())
    .then(
        ChangeApproved(
            change="c-1",
            approved_by=BERT,
            digest=content_digest("SaveApprovals", {"required_for": []}, dry_run=False).decode(),
            expected_version=2,
        ),
        APPLIED,
        ApprovalsSaved(required_for=()),
    ),
    "its author cannot approve it": given(*ON, propose(FORM))
    .when(approve(actor=ANNA))
    .then(AuthorCannotApprove(change="c-1", author=ANNA)),
    "nor by another key of the same person": given(*ON, by_key(propose(FORM, actor="api-key:1"), ANNA))
    .when(by_key(approve(actor="api-key:2"), ANNA))
    .then(AuthorCannotApprove(change="c-1", author="api-key:1")),
    "nor as the person that the key belongs to": given(*ON, by_key(propose(FORM, actor="api-key:1"), ANNA))
    .when(approve(actor=ANNA))
    .then(AuthorCannotApprove(change="c-1", author="api-key:1")),
    "nor by the key that the author's person has": given(*ON, propose(FORM))
    .when(by_key(approve(actor="api-key:1"), ANNA))
    .then(AuthorCannotApprove(change="c-1", author=ANNA)),
    "a key of another person approves it": given(*ON, by_key(propose(FORM), "Anna"))
    .when(by_key(approve(), "Bert"))
    .then(form_approved(), APPLIED, SAVED),
    "who proposed it is recorded with the person whose key it is": given(*ON)
    .when(by_key(propose(FORM), "Anna"))
    .then(form_proposed(owner="Anna")),
    "nobody who is unknown proposes": given(*ON).when(propose(FORM).command).then(ActorMissing()),
    "nor approves": given(*ON, propose(FORM)).when(approve().command).then(ActorMissing()),
    "approved twice": given(*ON, propose(FORM), approve())
    .when(approve(actor=CARL))
    .then(ChangeDecided(change="c-1", state="applied")),
    "approved twice before its instant": given(*ON, propose(FORM, **LATER), approve())
    .when(approve(actor=CARL))
    .then(ChangeDecided(change="c-1", state="approved")),
    "one that was never proposed": given(*ON).when(approve()).then(ChangeUnknown(change="c-1")),
    "declined": given(*ON, propose(FORM))
    .when(By(BERT, DeclineChange(change="c-1", comment="not now")))
    .then(ChangeDeclined(change="c-1", comment="not now")),
    "its author withdraws it": given(*ON, propose(FORM))
    .when(By(ANNA, DeclineChange(change="c-1")))
    .then(ChangeDeclined(change="c-1")),
    "approved after it was declined": given(*ON, propose(FORM), DeclineChange(change="c-1"))
    .when(approve())
    .then(ChangeDecided(change="c-1", state="declined")),
    "what its own rules refuse cannot be proposed": given(*ON)
    .when(propose(SaveOtpScheduling(enabled=True, countries=[], use_own_numbers=False)))
    .then(OtpSchedulingNeedsCountries()),
    "what would change nothing is not proposed": given(WHATSAPP, FORM).when(propose(FORM)).then(),
    "an id stands for one change": given(*ON, propose(FORM))
    .when(propose(OTHER_FORM))
    .then(ChangeAlreadyProposed(change="c-1")),
    "also after that is over": given(*ON, propose(FORM), approve())
    .when(propose(OTHER_FORM))
    .then(ChangeAlreadyProposed(change="c-1")),
    "an edit is another change, which replaces it": given(*ON, propose(OTHER_FORM, "c-0"))
    .when(propose(FORM, replaces="c-0"))
    .then(
        ChangeVoided(change="c-0", reason="Change 'c-1' replaces it."),
        form_proposed().model_copy(update={"expected_version": 3}),
    ),
    "so an approval of what was there before an edit is refused": given(
        *ON, propose(OTHER_FORM, "c-0"), propose(FORM, replaces="c-0")
    )
    .when(approve("c-0"))
    .then(ChangeDecided(change="c-0", state="voided")),
    "an edit takes an approval with it": given(
        *ON, propose(OTHER_FORM, "c-0", **LATER), approve("c-0"), propose(FORM, replaces="c-0", **LATER), Later(60)
    )
    .when(ApplyChange(change="c-0"))
    .then(ChangeDecided(change="c-0", state="voided")),
    "nobody else edits it": given(*ON, propose(OTHER_FORM, "c-0"))
    .when(propose(FORM, actor=BERT, replaces="c-0"))
    .then(ReplacedByAnother(change="c-0", author=ANNA)),
    "what changes on its path makes it void": given(WHATSAPP, propose(FORM))
    .when(OTHER_FORM)
    .then(
        ChangeVoided(change="c-1", reason="'otp-scheduling' changed after it was proposed."),
        SAVED.model_copy(update={"countries": ("IN",)}),
    ),
    "approved after it was overtaken": given(*ON, propose(FORM), propose(OTHER_FORM, "c-2"), approve("c-2"))
    .when(approve())
    .then(ChangeDecided(change="c-1", state="voided")),
    "a change that was seen too early is not proposed": given(WHATSAPP, FORM)
    .when(propose(OTHER_FORM), expecting=1)
    .then(VersionConflict(resource="otp-scheduling", expected=1, changed_at=2)),
    "an approval can expect what was seen of it": given(*ON, propose(FORM))
    .when(approve(), expecting=2)
    .then(VersionConflict(resource="proposed-changes/c-1", expected=2, changed_at=3)),
    "its instant is in the future": given(*ON).when(propose(FORM, at=at(0))).then(InstantHasPassed(at=at(0))),
    "it waits for its instant": given(*ON, propose(FORM, **LATER)).when(approve()).then(form_approved(**LATER)),
    "is not carried out before": given(*ON, propose(FORM, **LATER), approve(), Later(59))
    .when(ApplyChange(change="c-1"))
    .then(ChangeNotDue(change="c-1", at=at(60))),
    "is then": given(*ON, propose(FORM, **LATER), approve(), Later(60))
    .when(ApplyChange(change="c-1"))
    .then(APPLIED, SAVED),
    "and only once": given(*ON, propose(FORM, **LATER), approve(), Later(60), ApplyChange(change="c-1"))
    .when(ApplyChange(change="c-1"))
    .then(ChangeDecided(change="c-1", state="applied")),
    "not without an approval": given(*ON, propose(FORM, **LATER), Later(60))
    .when(ApplyChange(change="c-1"))
    .then(ChangeNotApproved(change="c-1")),
    "nor with one that comes too late": given(*ON, propose(FORM, **LATER), Later(60))
    .when(approve())
    .then(InstantHasPassed(at=at(60))),
    "an approved one is still declined": given(*ON, propose(FORM, **LATER), approve())
    .when(DeclineChange(change="c-1"))
    .then(ChangeDeclined(change="c-1")),
    "what its rules refuse at its instant is void": given(
        WHATSAPP,
        propose(OPEN_ERP, **LATER),
        approve(),
        OPEN_ERP.model_copy(update={"system": "erp2"}),
        Later(60),
    )
    .when(ApplyChange(change="c-1"))
    .then(
        ChangeVoided(
            change="c-1",
            reason="Business system 'erp2' of this channel has the name 'ERP' already; choose another System Name.",
        )
    ),
    "the channel's end is every change's end": given(WHATSAPP, propose(FORM, **LATER), approve())
    .when(RetireChannel())
    .then(ChangeVoided(change="c-1", reason="The channel was retired."), ChannelRetired()),
    "scheduled past it": given(WHATSAPP, propose(FORM, **LATER), approve(), RetireChannel(), Later(60))
    .when(ApplyChange(change="c-1"))
    .then(ChannelIsRetired(channel=CHANNEL)),
    "the end itself, approved": given(*ON, propose(FORM, "c-0"), propose(RetireChannel()))
    .when(approve())
    .then(
        ChangeVoided(change="c-0", reason="The channel was retired."),
        ChangeApproved(
            change="c-1",
            approved_by=BERT,
            digest=content_digest("RetireChannel", {}, dry_run=False).decode(),
            expected_version=3,
        ),
        APPLIED,
        ChannelRetired(),
    ),
    "too many": given(*ON, *(propose(FORM, f"c-{number}") for number in range(PROPOSED_CHANGES_LIMIT)))
    .when(propose(FORM, "more"))
    .then(TooManyProposedChanges(limit=PROPOSED_CHANGES_LIMIT)),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_proposed_changes(scenario: Scenario) -> None:
    scenario.check()


def test_a_signature_is_drawn_on_approval_and_its_secret_is_in_no_event() -> None:
    story = Story()
    for step in (WHATSAPP, OPEN_CRM, approvals("signature"), propose(REFRESH)):
        story.step(step)
    decided = story.decide(ApproveChange(change="c-1"), actor=BERT)

    assert isinstance(decided, Decision)
    assert decided.events[-1] == refreshed(2, ("key-1", at(24 * 60 * 60)))
    assert decided.new_secret is not None
    assert decided.new_secret.key_id == "key-2"
    assert decided.seal_request is None


def test_the_difference_of_a_business_system_names_what_changes() -> None:
    decided = given(WHATSAPP, OPEN_CRM).when(propose(REFRESH)).decided()
    assert isinstance(decided, Decision)
    [proposed] = decided.events

    assert isinstance(proposed, ChangeProposed)
    assert (proposed.before, proposed.after) == (
        {"business-systems/crm/signatures": ["key-1"]},
        {"business-systems/crm/signatures": ["key-2", "key-1"]},
    )


def test_closed_changes_are_forgotten_in_their_order() -> None:
    story = Story()
    for step in ON:
        story.step(step)
    for number in range(REMEMBERED_CHANGES + 1):
        story.step(propose(FORM, f"c-{number}"))
        story.step(DeclineChange(change=f"c-{number}"))

    assert story.decide(ApproveChange(change="c-0"), actor=BERT) == ChangeUnknown(change="c-0")
    assert story.decide(ApproveChange(change="c-1"), actor=BERT) == ChangeDecided(change="c-1", state="declined")
