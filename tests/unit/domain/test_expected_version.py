"""``expectedversion`` is per resource: a command is stale if something on its path changed after what it expected."""

from __future__ import annotations

import pytest

from contracts.business_system import DeleteBusinessSystem, EditBusinessSystem
from contracts.channel import EditChannel, RetireChannel
from contracts.intent import DeleteIntent, EditIntent
from contracts.message import CommandData
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.rejections import (
    BusinessSystemUnknown,
    ChannelAlreadyRegistered,
    ChannelIsRetired,
    ChannelUnknown,
    VersionConflict,
    VersionYetToCome,
)
from contracts.signature import RefreshSignature, RevealSignature
from contracts.sms import SmsActivated, SmsDeactivated, ToggleSms
from services.domain.decision import Decision
from services.domain.state import REMEMBERED_DELETIONS
from tests.unit.domain.given import CHANNEL, Scenario, Story, given
from tests.unit.domain.histories import ADD_ORDER, OPEN_CRM, OPEN_ERP, REFER, SEAL_TO, WHATSAPP, draft
from tests.unit.domain.test_channel import REGISTERED

ON, OFF = ToggleSms(enabled=True), ToggleSms(enabled=False)
RENAME = EditBusinessSystem(system="crm", name="Customers")
RENAME_INTENT = EditIntent(system="crm", code="ORDER", name="Order")
REFRESH = RefreshSignature(system="crm")
REVEAL = RevealSignature(system="crm", seal_to=SEAL_TO)
DELETE = DeleteBusinessSystem(system="crm")
SYSTEM, SIGNATURE, INTENT = (
    "business-systems/crm",
    "business-systems/crm/signature",
    "business-systems/crm/intents/ORDER",
)


def _stale(resource: str, expected: int, changed_at: int) -> VersionConflict:
    return VersionConflict(resource=resource, expected=expected, changed_at=changed_at)


SCENARIOS: dict[str, Scenario] = {
    "0 is a new channel": given().when(WHATSAPP, expecting=0).then(REGISTERED),
    "a channel that is there is not new": given(WHATSAPP)
    .when(WHATSAPP, expecting=0)
    .then(_stale("channel", expected=0, changed_at=1)),
    "the expectation comes before the rules": given(WHATSAPP)
    .when(WHATSAPP, expecting=1)
    .then(ChannelAlreadyRegistered(channel=CHANNEL)),
    "and after the channel": given().when(ON, expecting=0).then(ChannelUnknown(channel=CHANNEL)),
    "and after its account": given(WHATSAPP).when(ON, expecting=9, by="other").then(ChannelUnknown(channel=CHANNEL)),
    "and after its end": given(WHATSAPP, RetireChannel()).when(ON, expecting=9).then(ChannelIsRetired(channel=CHANNEL)),
    "a version yet to come": given(WHATSAPP).when(ON, expecting=2).then(VersionYetToCome(expected=2, current=1)),
    "of a channel that is not there": given().when(WHATSAPP, expecting=1).then(VersionYetToCome(expected=1, current=0)),
    "what was seen last": given(WHATSAPP, ON).when(OFF, expecting=2).then(SmsDeactivated()),
    "what changed since": given(WHATSAPP, ON).when(OFF, expecting=1).then(_stale("sms", expected=1, changed_at=2)),
    "what would change nothing is stale too": given(WHATSAPP, ON)
    .when(ON, expecting=1)
    .then(_stale("sms", expected=1, changed_at=2)),
    "without an expectation nothing is stale": given(WHATSAPP, ON).when(OFF).then(SmsDeactivated()),
    "two who change different things do not collide": given(WHATSAPP, EditChannel(name="Store"), OPEN_CRM)
    .when(ON, expecting=1)
    .then(SmsActivated()),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_expected_version(scenario: Scenario) -> None:
    scenario.check()


# What happens at version 5 and 6 of a channel with an open system and one intent (registered 1, opened 2 and 3,
# added 4), and what a command that expects version 4 makes of it.
BEFORE = (WHATSAPP, OPEN_CRM, ADD_ORDER)
SEEN = 4


@pytest.mark.parametrize(
    ("meanwhile", "command", "resource"),
    [
        (RENAME, EditBusinessSystem(system="crm", remarks="new"), SYSTEM),
        (RENAME, REFRESH, SIGNATURE),
        (RENAME, RENAME_INTENT, INTENT),
        (REFRESH, RENAME, SYSTEM),
        (REFRESH, REFRESH, SIGNATURE),
        (REVEAL, REVEAL, SIGNATURE),
        (RENAME_INTENT, RENAME, SYSTEM),
        (RENAME_INTENT, DeleteIntent(system="crm", code="ORDER"), INTENT),
        (REFER, RENAME_INTENT, INTENT),
        (REFER, DELETE, SYSTEM),
        (DeleteIntent(system="crm", code="ORDER"), ADD_ORDER, INTENT),
        (DeleteIntent(system="crm", code="ORDER"), DELETE, SYSTEM),
        (DELETE, OPEN_CRM, SYSTEM),
        (DELETE, draft(), SIGNATURE),
        (DELETE, ADD_ORDER, INTENT),
        (EditChannel(name="Store"), EditChannel(provider="agency"), "channel"),
        (EditChannel(name="Store"), RetireChannel(), "channel"),
        (
            SaveOtpScheduling(enabled=True, countries=["ID"], use_own_numbers=False),
            SaveOtpScheduling(enabled=False, countries=[], use_own_numbers=False),
            "otp-scheduling",
        ),
    ],
)
def test_a_change_on_the_path_makes_stale(meanwhile: CommandData, command: CommandData, resource: str) -> None:
    given(*BEFORE, meanwhile).when(command, expecting=SEEN).then(_stale(resource, SEEN, SEEN + 1)).check()


@pytest.mark.parametrize(
    ("meanwhile", "command"),
    [
        (OPEN_ERP, RENAME),
        (REFRESH, RENAME_INTENT),
        (REVEAL, RENAME_INTENT),
        (RENAME_INTENT, REFRESH),
        (REFER, REFRESH),
        (ADD_ORDER.model_copy(update={"code": "OTHER"}), RENAME_INTENT),
        (ON, RENAME),
        (RENAME, EditChannel(name="Store")),
        (EditChannel(name="Store"), RENAME),
        (draft("erp"), RENAME),
        (RENAME, OPEN_ERP),
    ],
)
def test_a_change_beside_the_path_does_not(meanwhile: CommandData, command: CommandData) -> None:
    assert isinstance(given(*BEFORE, meanwhile).when(command, expecting=SEEN).decided(), Decision)


def test_a_draft_changes_its_system() -> None:
    given(WHATSAPP, draft()).when(OPEN_CRM, expecting=1).then(_stale(SYSTEM, 1, 2)).check()
    given(WHATSAPP, draft()).when(draft(), expecting=1).then(_stale(SIGNATURE, 1, 2)).check()
    assert isinstance(given(WHATSAPP, draft()).when(OPEN_ERP, expecting=1).decided(), Decision)


def test_what_is_forgotten_of_deletions_refuses_rather_than_lets_pass() -> None:
    """More systems are deleted than deletions are remembered one by one."""
    story = Story()
    story.step(WHATSAPP)
    for number in range(REMEMBERED_DELETIONS + 1):
        name = f"s{number}"
        story.step(OPEN_ERP.model_copy(update={"system": name}))
        story.step(DeleteBusinessSystem(system=name))

    assert story.state.channel is not None
    assert len(story.state.channel.closed.versions) == REMEMBERED_DELETIONS
    first_deleted_at = 4
    stale = story.decide(OPEN_ERP.model_copy(update={"system": "s0"}), expected=first_deleted_at - 1)
    assert isinstance(stale, VersionConflict)
    fresh = story.decide(OPEN_ERP.model_copy(update={"system": "s0"}), expected=story.state.channel.version)
    assert isinstance(fresh, Decision)
    unknown = story.decide(DeleteBusinessSystem(system="s0"), expected=first_deleted_at)
    assert isinstance(unknown, BusinessSystemUnknown)
