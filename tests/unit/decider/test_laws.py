"""Laws of what the decider appends, for every history in every division into batches."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import topics
from contracts.envelope import GENESIS, EventEnvelope
from contracts.message import CommandData, unix_milliseconds
from contracts.message_types import EVENTS, Event
from contracts.partitioner import partition_of
from services.domain.decision import EventMetadata
from services.domain.evolve import evolve
from services.domain.state import ChannelState
from services.domain.state_codec import BUSINESS_SYSTEM, CHANNEL
from tests.unit.commands import REGISTER, commands, histories
from tests.unit.decider.partition import HOME, PARTITIONS, Partition, envelope

IRRELEVANT = {"fingerprint", "id", "time"}
"""What randomness makes different from one run to the next."""


def _records(state: ChannelState) -> tuple[Any, ...]:
    assert state.channel is not None
    return state.channel, {name: state.system(name) for name in state.channel.systems}


@given(histories, st.lists(st.integers(1, 7), min_size=30, max_size=30))
def test_history_folds_the_same_live_and_replayed(history: list[CommandData], sizes: list[int]) -> None:
    """The decider's own state, against a fold of the events as any reader finds them on the log."""
    partition = _run(history, sizes)
    state = ChannelState()
    for record in partition.read(topics.EVENTS.name):
        event = EventEnvelope.model_validate_json(record.value or b"")
        body = event.body()
        assert body is not None
        mark = EventMetadata(event.sequence, unix_milliseconds(event.time), sha256(record.value or b"").hexdigest())
        state = evolve(state, cast("Event", body), event.accountid, mark)

    assert _records(state) == _records(partition.state.channel("ch-1"))
    channel, systems = _records(state)
    assert partition.state.records == {b"ch-1": CHANNEL.encode(channel)} | {
        f"ch-1/{name}".encode(): BUSINESS_SYSTEM.encode(record) for name, record in systems.items()
    }
    restored = partition.restored()
    assert restored.records == partition.state.records
    assert restored.signatures == partition.state.signatures
    assert restored.checkpoint == partition.state.checkpoint
    assert _records(restored.channel("ch-1")) == _records(state)


@given(histories, st.lists(st.integers(1, 7), min_size=30, max_size=30))
def test_the_log_counts_without_gap_and_its_hash_chain_holds(history: list[CommandData], sizes: list[int]) -> None:
    partition = _run(history, sizes)
    previous, time = GENESIS, ""
    for place, record in enumerate(partition.read(topics.EVENTS.name), start=1):
        event = record.json()
        assert (event["sequence"], event["partitionsequence"], event["previoushash"]) == (place, place, previous)
        assert event["time"] >= time
        body = EVENTS[event["type"]].model_validate(event["data"])
        assert event["resource"] == cast("Event", body).resource
        assert json.loads(body.model_dump_json(exclude_unset=True, by_alias=True)) == event["data"]
        previous, time = sha256(record.value or b"").hexdigest(), event["time"]

    head = partition.state.channel("ch-1").channel
    assert head is not None
    assert (head.head, head.version) == (previous, len(partition.events()))


@given(histories, st.lists(st.integers(1, 7), min_size=30, max_size=30))
def test_each_command_has_one_outcome_and_its_events(history: list[CommandData], sizes: list[int]) -> None:
    partition = _run(history, sizes)
    outcomes = [record.json() for record in partition.read(topics.OUTCOMES.name)]
    by_command: dict[str, list[str]] = {}
    for event in partition.events():
        by_command.setdefault(event["causationid"], []).append(event["id"])

    assert [outcome["causationid"] for outcome in outcomes] == [f"c{number}" for number in range(len(history))]
    for outcome in outcomes:
        assert outcome["data"].get("events", []) == by_command.get(outcome["causationid"], [])
    held = {record.key for record in partition.read(topics.SIGNATURES.name) if record.key in partition.state.signatures}
    assert held == _signatures_in(partition)


@given(histories, st.lists(st.integers(1, 7), min_size=60, max_size=60), st.booleans())
def test_the_same_ids_again_change_nothing(history: list[CommandData], sizes: list[int], restored: bool) -> None:  # noqa: FBT001
    partition = _run(history, sizes)
    before, state = len(partition.events()), _records(partition.state.channel("ch-1"))
    if restored:
        partition.state = partition.restored()
    first = [record.json()["data"] for record in partition.read(topics.OUTCOMES.name)]
    again = partition.run(*(envelope(command, f"c{number}") for number, command in enumerate(history)))

    assert [outcome["data"] for outcome in again] == first
    assert all(outcome["repeated"] for outcome in again)
    assert (len(partition.events()), _records(partition.state.channel("ch-1"))) == (before, state)


@given(histories, commands)
def test_a_dry_run_says_exactly_what_the_real_run_then_does(history: list[CommandData], command: CommandData) -> None:
    partition = _run(history, [len(history)])
    before, state = len(partition.events()), _records(partition.state.channel("ch-1"))
    (dry,) = partition.run(envelope(command, "dry", dryrun=True))
    assert (len(partition.events()), _records(partition.state.channel("ch-1"))) == (before, state)
    (real,) = partition.run(envelope(command, "real"))

    assert dry["type"] == real["type"]
    if real["type"] == "CommandRejected":
        assert dry["data"] == real["data"]
    else:
        appended = [{"type": event["type"], "data": event["data"]} for event in partition.events()[before:]]
        assert _settled(dry["data"]["would_append"]) == _settled(appended)
        assert dry["data"]["version"] == before


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 5), commands), max_size=40), st.lists(st.integers(1, 9), min_size=60, max_size=60)
)
def test_partitionsequence_counts_over_all_channels(mixed: list[tuple[int, CommandData]], sizes: list[int]) -> None:
    channels = [name for number in range(99) if partition_of(name := f"ch-{number}", PARTITIONS) == HOME][:6]
    values = [envelope(REGISTER, "r", subject=name) for name in channels]
    values += [envelope(command, f"c{number}", subject=channels[at]) for number, (at, command) in enumerate(mixed)]
    partition = Partition()
    _in_batches(partition, values, sizes)
    heads: dict[str, tuple[int, str]] = {}
    for place, record in enumerate(partition.read(topics.EVENTS.name), start=1):
        event = record.json()
        version, head = heads.get(event["subject"], (0, GENESIS))
        assert (event["partitionsequence"], event["sequence"], event["previoushash"]) == (place, version + 1, head)
        heads[event["subject"]] = (event["sequence"], sha256(record.value or b"").hexdigest())


def _run(history: list[CommandData], sizes: list[int]) -> Partition:
    partition = Partition()
    _in_batches(partition, [envelope(command, f"c{number}") for number, command in enumerate(history)], sizes)
    return partition


def _in_batches(partition: Partition, values: list[dict[str, Any]], sizes: list[int]) -> None:
    for size in sizes:
        batch, values = values[:size], values[size:]
        partition.now += 700
        if batch:
            partition.run(*batch)
    partition.run(*values)


def _signatures_in(partition: Partition) -> set[bytes]:
    """The record keys of every signature that the channel's state knows."""
    channel, systems = _records(partition.state.channel("ch-1"))
    drafts = {f"ch-1/{draft.system}/{draft.key_id}".encode() for draft in channel.drafts}
    return drafts | {
        f"ch-1/{name}/{one.key_id}".encode() for name, system in systems.items() for one in system.signatures
    }


def _settled(value: Any) -> Any:
    """Without what randomness and the clock make different."""
    if isinstance(value, dict):
        return {key: _settled(one) for key, one in value.items() if key not in IRRELEVANT}
    return [_settled(one) for one in value] if isinstance(value, list) else value
