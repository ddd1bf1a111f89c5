"""The state has every section of the contract: its settings after each of its events, and its last change."""

from __future__ import annotations

from hypothesis import given

from contracts.message import CommandData
from contracts.section import SectionEvent
from contracts.settings import SECTIONS
from services.domain.decision import Decision
from services.domain.expected_version import version_conflict
from services.domain.state import ChannelState
from tests.unit.commands import histories
from tests.unit.domain.given import Story
from tests.unit.domain.histories import WHATSAPP


def test_a_new_channel_has_every_section_with_its_defaults() -> None:
    story = Story()
    story.step(WHATSAPP)

    assert story.state.channel is not None
    assert story.state.channel.sections() == {name: section() for name, section in SECTIONS.items()}


@given(histories)
def test_a_section_is_what_its_last_event_says(history: list[CommandData]) -> None:
    story, expected = Story(), {name: section() for name, section in SECTIONS.items()}
    fields = {section: name for name, section in SECTIONS.items()}
    for command in history:
        decided = story.decide(command)
        for event in decided.events if isinstance(decided, Decision) else ():
            story.happen(event)
            if isinstance(event, SectionEvent):
                expected[fields[type(event.section())]] = event.section()
                _assert_changed_now(story.state, event.resource)

    assert story.state.channel is not None
    assert story.state.channel.sections() == expected


def _assert_changed_now(state: ChannelState, resource: str) -> None:
    assert state.channel is not None
    assert version_conflict(state, resource, state.channel.version) is None
    assert version_conflict(state, resource, state.channel.version - 1) is not None
