"""An event that no decision can have led to raises; and no event changes the state before it."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given as given_any

from contracts.business_system import (
    BusinessSystemDeleted,
    BusinessSystemDisabled,
    BusinessSystemEdited,
    BusinessSystemEnabled,
)
from contracts.channel import ChannelEdited, ChannelRegistered, RetireChannel
from contracts.intent import IntentAdded, IntentDeleted, IntentEdited, IntentReferredTo, IntentReleased
from contracts.message import CommandData, EventData
from contracts.signature import SignatureRevealed, SignatureRevoked
from contracts.sms import SmsActivated
from services.domain.decision import Decision
from services.domain.state import ImpossibleHistory
from tests.unit.commands import histories
from tests.unit.domain.given import Story
from tests.unit.domain.histories import ADD_ORDER, OPEN_CRM, WHATSAPP, crm_opened, draft, issued, refreshed
from tests.unit.domain.test_proposed_change import APPLIED, form_proposed

REGISTERED = ChannelRegistered(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
ORDER_ADDED = IntentAdded(system="crm", code="ORDER", name="Order", default_data={}, json_schema=None)
NO_TIME = "has a time that is none: it must be an RFC 3339 time"
DRAFTED = refreshed(1).model_copy(update={"api_request_url": "https://crm.example/hook"})


CASES: list[tuple[tuple[CommandData, ...], EventData, str]] = [
    ((), SmsActivated(), "never registered"),
    ((WHATSAPP,), REGISTERED, "registered already"),
    ((WHATSAPP, RetireChannel()), ChannelEdited(name="Store"), "a retired channel"),
    ((WHATSAPP, RetireChannel()), REGISTERED, "registered already"),
    ((WHATSAPP, OPEN_CRM), crm_opened(), "'crm' is open already"),
    ((WHATSAPP,), crm_opened(issued(1)), "'crm' has no drafted signature key-1"),
    ((WHATSAPP, draft()), crm_opened(issued(2)), "'crm' has no drafted signature key-2"),
    ((WHATSAPP,), BusinessSystemEdited(system="crm", name="CRM"), "'crm' is not open"),
    ((WHATSAPP,), BusinessSystemDisabled(system="crm"), "'crm' is not open"),
    ((WHATSAPP,), BusinessSystemEnabled(system="crm"), "'crm' is not open"),
    ((WHATSAPP,), BusinessSystemDeleted(system="crm"), "'crm' is not open"),
    ((WHATSAPP,), refreshed(1), "'crm' is not open"),
    ((WHATSAPP, OPEN_CRM), DRAFTED, "'crm' is open, so no signature is drafted"),
    ((WHATSAPP,), SignatureRevealed(system="crm", key_id="key-1"), "no drafted signature key-1"),
    ((WHATSAPP,), SignatureRevoked(system="crm", key_id="key-1"), "no drafted signature key-1"),
    ((WHATSAPP, OPEN_CRM), SignatureRevealed(system="crm", key_id="key-2"), "'crm' has no signature key-2"),
    ((WHATSAPP, OPEN_CRM), SignatureRevoked(system="crm", key_id="key-2"), "'crm' has no signature key-2"),
    ((WHATSAPP,), ORDER_ADDED, "'crm' is not open"),
    ((WHATSAPP, OPEN_CRM, ADD_ORDER), ORDER_ADDED, "'ORDER' of 'crm' is added already"),
    ((WHATSAPP, OPEN_CRM), IntentEdited(system="crm", code="ORDER", name="x"), "no intent 'ORDER'"),
    ((WHATSAPP, OPEN_CRM), IntentDeleted(system="crm", code="ORDER"), "no intent 'ORDER'"),
    ((WHATSAPP, OPEN_CRM), IntentReferredTo(system="crm", code="ORDER", template="t"), "no intent 'ORDER'"),
    ((WHATSAPP, OPEN_CRM), IntentReleased(system="crm", code="ORDER", template="t"), "no intent 'ORDER'"),
    ((WHATSAPP, OPEN_CRM), refreshed(2, ("key-1", "2026-11-22T08:p0:00Z")), NO_TIME),
    ((WHATSAPP, draft()), crm_opened(issued(1).model_copy(update={"issued_at": "yesterday"})), NO_TIME),
    ((WHATSAPP,), form_proposed(at="tomorrow"), NO_TIME),
    ((WHATSAPP,), APPLIED, "'c-1' is not open"),
]


@pytest.mark.parametrize(
    ("history", "event", "reason"),
    CASES,
    ids=[f"{type(event).__name__} after {len(history)}: {reason}" for history, event, reason in CASES],
)
def test_it_raises(history: tuple[CommandData, ...], event: EventData, reason: str) -> None:
    story = Story()
    for command in history:
        story.step(command)
    with pytest.raises(ImpossibleHistory, match=reason):
        story.happen(event)


@given_any(histories)
def test_no_event_changes_the_state_before_it(history: list[CommandData]) -> None:
    story = Story()
    for command in history:
        decided = story.decide(command)
        for event in decided.events if isinstance(decided, Decision) else ():
            before = story.state
            copy = deepcopy((before.channel, before.changed_systems))
            story.happen(event)
            assert (before.channel, before.changed_systems) == copy
            assert story.state.channel is not before.channel
