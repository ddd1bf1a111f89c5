"""Scheduled changes are carried out at their instant, once, whoever owns the partition then."""

from __future__ import annotations

import pytest

from contracts import topics
from contracts.message import rfc3339
from contracts.proposed_change import ApproveChange, DeclineChange, ProposeChange
from services.decider.maintenance import SEGMENT_MS, Maintenance
from services.decider.partition_state import PartitionState
from services.decider.scheduled_changes import RETRY_MS, ScheduledChanges, command_id_of
from services.infrastructure.transactions import OutgoingRecord
from tests.unit.decider.partition import CHANNEL, HOME, NOW, OPEN, REGISTER, Partition, envelope, rejection_of

AT = NOW + 10_000
PROPOSE = ProposeChange.model_validate(
    {"change": "c-1", "command": {"type": "RetireChannel", "data": {}}, "at": rfc3339(AT)}
)


@pytest.fixture
def partition() -> Partition:
    """One with a change that is approved for `AT`."""
    partition = Partition()
    partition.run(
        envelope(REGISTER, "1"),
        envelope(PROPOSE, "2", actor="anna"),
        envelope(ApproveChange(change="c-1"), "3", actor="bert"),
    )
    return partition


def _sent(partition: Partition, records: list[OutgoingRecord]) -> list[str | None]:
    """Decides the commands; returns the rejection of each, or None."""
    return [rejection_of(outcome) for outcome in partition.run(*(record.value for record in records))]


def _new_owner(state: PartitionState) -> ScheduledChanges:
    return ScheduledChanges(state, HOME)


def test_it_is_carried_out_at_its_instant_and_once(partition: Partition) -> None:
    changes = _new_owner(partition.state)
    assert changes.due(AT - 1) == []
    [command] = changes.due(AT)
    assert (command.topic, command.partition, command.key) == (topics.COMMANDS.name, HOME, CHANNEL.encode())
    assert changes.due(AT + 1) == []

    partition.now = AT
    assert _sent(partition, [command]) == [None]

    assert [event["type"] for event in partition.events()[-2:]] == ["ChangeApplied", "ChannelRetired"]
    changes.follow(CHANNEL.encode(), partition.state.records[CHANNEL.encode()])
    assert changes.due(AT + 10 * RETRY_MS) == []


def test_a_new_owner_sends_the_same_command_which_is_decided_once(partition: Partition) -> None:
    [first] = _new_owner(partition.state).due(AT)
    [second] = _new_owner(partition.restored()).due(AT + 1_000)
    partition.now = AT + 1_000
    outcomes = partition.run(first.value, second.value)

    assert [outcome.get("repeated", False) for outcome in outcomes] == [False, True]
    assert [event["type"] for event in partition.events()].count("ChangeApplied") == 1


def test_one_that_is_over_while_nobody_owned_the_partition_is_carried_out_by_the_next_owner(
    partition: Partition,
) -> None:
    commands = _new_owner(partition.restored()).due(AT + 5 * RETRY_MS)
    partition.now = AT + 5 * RETRY_MS

    assert _sent(partition, commands) == [None]
    assert partition.events()[-1]["type"] == "ChannelRetired"


def test_a_command_that_came_before_its_instant_by_another_clock_is_sent_again(partition: Partition) -> None:
    changes = _new_owner(partition.state)
    assert _sent(partition, changes.due(AT)) == ["ChangeNotDue"]  # the decider's clock is at `NOW`
    partition.now = AT + RETRY_MS

    assert changes.due(AT + RETRY_MS - 1) == []
    assert _sent(partition, changes.due(AT + RETRY_MS)) == [None]


def test_the_maintenance_of_an_owner_sees_it_and_sends_it(partition: Partition) -> None:
    maintenance = Maintenance(PartitionState(), HOME, SEGMENT_MS, partition.keyring)
    state = topics.CHANNEL_STATE.name
    committed = [OutgoingRecord(state, HOME, one.key, one.value) for one in partition.read(state)]
    maintenance.committed(committed, NOW)

    assert maintenance.due(AT - 1) == []
    assert [record.topic for record in maintenance.due(AT)] == [topics.COMMANDS.name]


def test_the_ids_of_attempts_differ() -> None:
    assert command_id_of("ch-1", "c-1", 0) == command_id_of("ch-1", "c-1", 0)
    assert len({command_id_of(channel, "c-1", attempt) for channel in ("a", "b") for attempt in (0, 1)}) == 4


def test_one_that_is_declined_waits_no_more(partition: Partition) -> None:
    changes = _new_owner(partition.state)
    partition.run(envelope(DeclineChange(change="c-1"), "4", actor="bert"))
    changes.follow(CHANNEL.encode(), partition.state.records[CHANNEL.encode()])

    assert changes.due(AT) == []


def test_one_without_an_approval_does_not_wait() -> None:
    partition = Partition()
    partition.run(envelope(REGISTER, "1"), envelope(PROPOSE, "2", actor="anna"))

    assert _new_owner(partition.state).due(AT) == []


def test_a_record_that_cannot_be_read_stops_nobody(partition: Partition) -> None:
    partition.state.records[b"broken"] = b'{"v":1,"approved_by":'

    assert len(_new_owner(partition.state).due(AT)) == 1


def test_what_was_sent_stays_sent_when_the_channel_changes(partition: Partition) -> None:
    changes = _new_owner(partition.state)
    changes.due(AT)
    partition.run(envelope(OPEN, "4"))
    changes.follow(CHANNEL.encode(), partition.state.records[CHANNEL.encode()])

    assert changes.due(AT + 1) == []
