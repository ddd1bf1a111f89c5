"""The events and outcomes of ``tests/golden``, as they were once written, are read and folded for ever.

``events.jsonl`` is a whole story that ends with the channel's retirement; what came to be later is another channel's
story in ``later_events.jsonl``. Add there when there is a new event or a new field; never change a line that is there.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import cast

import pytest

from contracts.envelope import GENESIS, EventEnvelope
from contracts.message import unix_milliseconds
from contracts.message_types import EVENTS, Event
from contracts.outcome import CommandRejected, OutcomeEnvelope
from contracts.rejections import REJECTIONS
from services.domain.decision import EventMetadata
from services.domain.evolve import evolve
from services.domain.state import ChannelState
from services.domain.state_codec import BUSINESS_SYSTEM, CHANNEL

GOLDEN = Path(__file__).parents[2] / "golden"
EVENT_LINES = (GOLDEN / "events.jsonl").read_bytes().splitlines()
LATER_LINES = (GOLDEN / "later_events.jsonl").read_bytes().splitlines()
ALL_LINES = EVENT_LINES + LATER_LINES
REJECTION_LINES = (GOLDEN / "rejections.jsonl").read_bytes().splitlines()
OUTCOME_LINES = (GOLDEN / "outcomes.jsonl").read_bytes().splitlines() + REJECTION_LINES


def _fold(lines: list[bytes]) -> ChannelState:
    state = ChannelState()
    for line in lines:
        event = EventEnvelope.model_validate_json(line)
        mark = EventMetadata(event.sequence, unix_milliseconds(event.time), sha256(line).hexdigest())
        state = evolve(state, cast("Event", event.body()), event.accountid, mark)
    return state


def test_every_event_has_a_sample() -> None:
    assert {json.loads(line)["type"] for line in ALL_LINES} == EVENTS.keys()


@pytest.mark.parametrize("number", range(len(ALL_LINES)))
def test_an_event_is_read_whole(number: int) -> None:
    """No field is lost or changed between the log and its type."""
    event = EventEnvelope.model_validate_json(ALL_LINES[number])
    body = event.body()

    assert body is not None
    assert type(body).__name__ == event.type
    assert body.model_dump(mode="json", exclude_unset=True) == json.loads(ALL_LINES[number])["data"]


def test_an_event_with_more_than_we_know_is_read() -> None:
    sample = json.loads(EVENT_LINES[0])
    newer = sample | {"newattribute": 1, "data": sample["data"] | {"new_field": {"a": 1}}}

    assert EventEnvelope.model_validate(newer).body() == EventEnvelope.model_validate(sample).body()
    assert EventEnvelope.model_validate(sample | {"type": "ChannelBlessed"}).body() is None


@pytest.mark.parametrize("lines", [EVENT_LINES, LATER_LINES], ids=["first", "later"])
def test_the_chain_holds(lines: list[bytes]) -> None:
    previous = GENESIS
    for number, line in enumerate(lines, 1):
        event = EventEnvelope.model_validate_json(line)
        assert (event.sequence, event.partitionsequence, event.previoushash) == (number, number, previous)
        previous = sha256(line).hexdigest()


def test_the_story_folds_to_the_state_that_it_had() -> None:
    """All but the last event, which retires the channel and leaves little to compare."""
    state = _fold(EVENT_LINES[:-1])
    assert state.channel is not None
    golden = json.loads((GOLDEN / "state.json").read_text())
    assert state.channel == CHANNEL.decode(json.dumps(golden.pop("golden-1")).encode())
    systems = {f"golden-1/{name}": state.system(name) for name in state.channel.systems}
    assert systems == {key: BUSINESS_SYSTEM.decode(json.dumps(record).encode()) for key, record in golden.items()}
    retired = _fold(EVENT_LINES).channel
    assert retired is not None
    assert retired.retired


def test_the_later_story_folds_to_the_state_that_it_had() -> None:
    golden = json.loads((GOLDEN / "later_state.json").read_text())
    assert _fold(LATER_LINES).channel == CHANNEL.decode(json.dumps(golden["golden-2"]).encode())


@pytest.mark.parametrize("number", range(len(OUTCOME_LINES)))
def test_an_outcome_is_read_whole(number: int) -> None:
    sample = json.loads(OUTCOME_LINES[number])
    outcome = OutcomeEnvelope.model_validate_json(OUTCOME_LINES[number])
    body = outcome.body()

    assert type(body).__name__ == outcome.type
    assert json.loads(body.model_dump_json(exclude_unset=True)) == sample["data"]
    assert outcome.repeated is sample.get("repeated", False)
    if isinstance(body, CommandRejected):
        typed = body.typed()
        assert typed is not None
        # The sentence may become a better one.
        assert typed.model_dump(mode="json", exclude_unset=True) == body.model_extra


def test_every_rejection_has_a_sample() -> None:
    assert {json.loads(line)["data"]["rejection"] for line in REJECTION_LINES} == REJECTIONS.keys()


def test_every_kind_of_outcome_has_a_sample() -> None:
    samples = [json.loads(line) for line in OUTCOME_LINES]
    accepted = [sample["data"] for sample in samples if sample["type"] == "CommandAccepted"]

    assert any("sealed" in data for data in accepted)
    assert any("would_append" in data for data in accepted)
    assert any(data.get("events") == [] for data in accepted)
    assert any(sample.get("repeated") for sample in samples)
    assert any(sample["type"] == "CommandRejected" for sample in samples)
