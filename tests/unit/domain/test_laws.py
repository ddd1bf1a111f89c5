"""Laws of the rules and the state, for every history."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from contracts.business_system import DisableBusinessSystem, EditBusinessSystem, EnableBusinessSystem
from contracts.channel import EditChannel
from contracts.intent import EditIntent
from contracts.message import CommandData
from contracts.message_types import Command
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.rejections import ChannelIsRetired, VersionConflict, VersionYetToCome
from contracts.resources import on_same_path
from contracts.sms import ToggleSms
from services.domain.decision import Decision
from services.domain.state import ChannelState
from services.domain.state_codec import BUSINESS_SYSTEM, CHANNEL
from tests.unit.commands import commands, edits, histories
from tests.unit.domain.given import Story

EDITS = (
    EditChannel,
    EditBusinessSystem,
    EditIntent,
    ToggleSms,
    SaveOtpScheduling,
    DisableBusinessSystem,
    EnableBusinessSystem,
)


def _story_of(history: list[CommandData], *, seconds_between: int = 0) -> Story:
    story = Story()
    for number, command in enumerate(history):
        story.now += seconds_between * 1000
        decided = story.decide(command, actor=f"person-{number % 2}")
        for event in decided.events if isinstance(decided, Decision) else ():
            story.happen(event)
    return story


def _records(state: ChannelState) -> tuple[Any, ...]:
    assert state.channel is not None
    return state.channel, {name: state.system(name) for name in state.channel.systems}


def _encoded(state: ChannelState) -> ChannelState:
    """The state as it is after its records were encoded, dropped and decoded."""
    channel, systems = _records(state)
    kept = {name: BUSINESS_SYSTEM.encode(record) for name, record in systems.items()}
    return ChannelState(CHANNEL.decode(CHANNEL.encode(channel)), {}, lambda name: BUSINESS_SYSTEM.decode(kept[name]))


@given(histories, st.sampled_from([0, 1, 40]))
def test_state_records_survive_their_encoding_exactly(history: list[CommandData], seconds: int) -> None:
    state = _story_of(history, seconds_between=seconds).state
    again = _encoded(state)

    assert _records(again) == _records(state)
    for record, decoded in zip(_records(state)[1].values(), _records(again)[1].values(), strict=True):
        assert BUSINESS_SYSTEM.encode(decoded) == BUSINESS_SYSTEM.encode(record)
        for code, intent in record.intents.items():  # 1, 1.0 and true are equal, but not the same
            assert repr(decoded.intents[code].default_data) == repr(intent.default_data)


@given(commands)
def test_a_command_survives_its_json_exactly(command: CommandData) -> None:
    read = type(command).model_validate_json(command.model_dump_json(exclude_unset=True, by_alias=True), by_name=False)

    assert repr(read) == repr(command)  # 1, 1.0 and true are equal, but not the same
    assert read.model_fields_set == command.model_fields_set


@given(histories, commands)
def test_a_state_that_was_dropped_and_read_again_decides_the_same(
    history: list[CommandData], command: CommandData
) -> None:
    story = _story_of(history, seconds_between=1)
    decided = story.decide(command)
    story.state = _encoded(story.state)

    assert repr(story.decide(command)) == repr(decided)


@given(histories, edits)
def test_asking_twice_appends_nothing(history: list[CommandData], edit: CommandData) -> None:
    story = Story()
    for command in [*history, edit]:
        decided = story.decide(command)
        for event in decided.events if isinstance(decided, Decision) else ():
            story.happen(event)
        if isinstance(decided, Decision) and isinstance(command, EDITS):
            assert story.decide(command) == Decision()


@given(histories, commands, st.integers(0, 40))
def test_a_command_is_stale_exactly_if_its_path_changed(
    history: list[CommandData], command: CommandData, expected: int
) -> None:
    story, changed = Story(), []
    for step in history:
        decided = story.decide(step)
        for event in decided.events if isinstance(decided, Decision) else ():
            changed.append(event.resource)
            story.happen(event)
    assert story.state.channel is not None
    decided = story.decide(command, expected=expected)
    resource = cast("Command", command).resource

    if story.state.channel.retired:
        assert isinstance(decided, ChannelIsRetired)
    elif expected > len(changed):
        assert isinstance(decided, VersionYetToCome)
    elif any(on_same_path(one, resource) for one in changed[expected:]):
        assert isinstance(decided, VersionConflict)
    elif "/intents/" not in resource:  # below a system that is not open there is nothing to be stale
        assert not isinstance(decided, VersionConflict)
