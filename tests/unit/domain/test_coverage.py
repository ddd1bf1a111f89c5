"""Every command, event and rejection occurs in the tables of this folder."""

from __future__ import annotations

from collections.abc import Iterator

from contracts.message_types import COMMANDS, EVENTS
from contracts.rejection import Rejection
from contracts.rejections import REJECTIONS, BusinessSystemTooLarge
from tests.unit.domain import (
    test_approvals,
    test_business_system,
    test_channel,
    test_expected_version,
    test_intent,
    test_limits,
    test_otp_scheduling,
    test_proposed_change,
    test_signature,
    test_sms,
    test_spend_guard,
)
from tests.unit.domain.given import Scenario, given
from tests.unit.domain.histories import channel_of

OTP_ELSEWHERE = given(channel_of("line")).when(test_otp_scheduling.form("ID"))

BEFORE_THE_DECISION = {
    *("InvalidCommand", "CommandIdReused", "DecisionFailed", "DecisionTimedOut", "SealKeyRefused", "TooManyCommands")
}
"""The decider's own rejections; tests/unit/decider/ has them."""


def _scenarios() -> Iterator[Scenario]:
    for table in (
        test_approvals,
        test_business_system,
        test_channel,
        test_expected_version,
        test_intent,
        test_limits,
        test_otp_scheduling,
        test_proposed_change,
        test_signature,
        test_sms,
        test_spend_guard,
    ):
        yield from table.SCENARIOS.values()
    yield OTP_ELSEWHERE


def test_every_command_event_and_rejection_occurs() -> None:
    commands, events = set(), set()
    rejections = {BusinessSystemTooLarge.__name__}  # too long a story for a table: test_limits tells it
    for scenario in _scenarios():
        decided = scenario.decided()
        if isinstance(decided, Rejection):
            rejections.add(type(decided).__name__)
        else:
            commands.add(type(scenario.command).__name__)
            events |= {type(event).__name__ for event in decided.events}

    assert commands == COMMANDS.keys()
    assert events == EVENTS.keys()
    assert rejections == REJECTIONS.keys() - BEFORE_THE_DECISION


def test_there_are_as_many_as_the_interface_says() -> None:
    assert (len(COMMANDS), len(EVENTS)) == (24, 26)
