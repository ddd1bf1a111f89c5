"""The laws of approvals, for every history: who, and of what exactly."""

from __future__ import annotations

from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.approvals import ApprovalsSaved
from contracts.business_system import DisableBusinessSystem, EditBusinessSystem
from contracts.channel import RetireChannel
from contracts.message import EventData
from contracts.message_types import Event
from contracts.proposed_change import ApplyChange, ApproveChange, ChangeApplied, ChangeApproved, ChangeProposed
from contracts.resources import on_same_path
from contracts.signature import SignatureRefreshed
from services.domain.decision import Decision
from tests.unit.domain.given import By, Story, at
from tests.unit.domain.histories import OPEN_CRM, WHATSAPP
from tests.unit.domain.test_approvals import EVERYTHING, FORM, approvals
from tests.unit.domain.test_proposed_change import ANNA, BERT, OTHER_FORM, REFRESH, propose

RENAME = EditBusinessSystem(system="crm", name="Customers")

NEEDS_TWO = {
    *("ApprovalsSaved", "OtpSchedulingSaved", "ChannelRetired"),
    *("BusinessSystemOpened", "BusinessSystemEdited", "BusinessSystemDeleted", "BusinessSystemEnabled"),
}
"""Signatures aside, of which drafts need nobody."""

_change = st.sampled_from(["c-1", "c-2", "c-3", "c-4"])
_commands = st.sampled_from([FORM, OTHER_FORM, REFRESH, RENAME, RetireChannel(), approvals()])
_proposals = st.builds(
    propose,
    _commands,
    _change,
    st.sampled_from([ANNA, BERT]),
    at=st.none() | st.just(at(10)),
)
_decisions = st.builds(
    By,
    st.sampled_from([ANNA, BERT, "carl"]),
    st.builds(ApproveChange, change=_change) | st.builds(ApplyChange, change=_change),
)
_direct = st.builds(By, st.sampled_from([ANNA, BERT]), _commands | st.just(DisableBusinessSystem(system="crm")))
steps = st.lists(st.one_of(_proposals, _decisions, _decisions, _direct), min_size=5, max_size=30)

_competing = [
    *(propose(FORM, "c-1"), propose(OTHER_FORM, "c-2")),
    *(propose(FORM, "c-3", at=at(10)), propose(OTHER_FORM, "c-4", at=at(10))),
]
"""Proposed changes of one path."""
_by_bert = st.builds(lambda change: By(BERT, ApproveChange(change=change)), _change)
_due = st.builds(lambda change: By(BERT, ApplyChange(change=change)), _change)
competing = st.lists(_by_bert | _due, min_size=2, max_size=20).map(lambda decisions: _competing + decisions)


def _events(history: list[By]) -> list[tuple[EventData, ...]]:
    """The events of each accepted command on a channel where everything needs an approval; a second passes between."""
    story = Story()
    for command in (WHATSAPP, OPEN_CRM, approvals(*EVERYTHING)):
        story.step(command)
    found: list[tuple[EventData, ...]] = []
    for step in history:
        story.now += 1000
        decided = story.decide(step.command, actor=step.actor)
        if isinstance(decided, Decision):
            found.append(decided.events)
            for event in decided.events:
                story.happen(event)
                if isinstance(event, ApprovalsSaved):
                    return found
    return found


@settings(max_examples=200)
@given(steps)
def test_nothing_changes_without_a_second_person(history: list[By]) -> None:
    for events in _events(history):
        for number, event in enumerate(events):
            if type(event).__name__ in NEEDS_TWO or _replaces_signature(event):
                [applied] = [before for before in events[:number] if isinstance(before, ChangeApplied)]
                assert applied.proposed_by != applied.approved_by
                note(f"{type(event).__name__} was approved")


def _replaces_signature(event: EventData) -> bool:
    return isinstance(event, SignatureRefreshed) and event.api_request_url is None and bool(event.replaced)


@settings(max_examples=200)
@given(competing | steps)
def test_what_is_carried_out_is_what_was_approved_and_nothing_on_its_path_changed(
    history: list[By],
) -> None:
    proposed: dict[str, ChangeProposed] = {}
    approved: dict[str, ChangeApproved] = {}
    applied: set[str] = set()
    overtaken: set[str] = set()
    for events in _events(history):
        for event in events:
            match event:
                case ChangeProposed():
                    proposed[event.change] = event
                    overtaken.discard(event.change)
                case ChangeApproved():
                    approved[event.change] = event
                case ChangeApplied():
                    before, after = proposed[event.change], approved[event.change]
                    assert event.change not in overtaken | applied
                    applied.add(event.change)
                    assert (before.digest, before.expected_version) == (after.digest, after.expected_version)
                    assert (before.proposed_by, after.approved_by) == (event.proposed_by, event.approved_by)
                case _:
                    overtaken |= {name for name, one in proposed.items() if _on_path(event, one)}


def _on_path(event: EventData, change: ChangeProposed) -> bool:
    changed: Event = event  # type: ignore[assignment]
    return on_same_path(changed.resource, change.affects)
