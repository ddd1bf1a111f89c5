"""A repeated command id has the outcome of the first command, and appends no event."""

from __future__ import annotations

from typing import Any

import pytest

from contracts import topics
from contracts.business_system import DisableBusinessSystem
from contracts.channel import EditChannel
from services.decider.idempotency_window import WINDOW_MS
from tests.unit.decider.partition import (
    OFF,
    ON,
    OPEN,
    REGISTER,
    Partition,
    channel_at_home,
    envelope,
    rejection_of,
)


@pytest.mark.parametrize("batches", [1, 2])
def test_the_same_id_again_has_the_same_outcome_and_no_new_event(partition: Partition, batches: int) -> None:
    command = envelope(ON, "c3")
    outcomes = partition.run(command, command) if batches == 1 else [*partition.run(command), *partition.run(command)]

    assert outcomes[0]["data"] == outcomes[1]["data"]
    assert "repeated" not in outcomes[0]
    assert outcomes[1]["repeated"] is True
    assert len(partition.events()) == 4


def test_a_rejection_is_repeated_although_it_would_be_accepted_now(partition: Partition) -> None:
    early = envelope(DisableBusinessSystem(system="erp"), "c3")
    opened = envelope(OPEN.model_copy(update={"system": "erp", "name": "ERP"}), "c4")
    first, _, again = partition.run(early, opened, early)

    assert rejection_of(first) == rejection_of(again) == "BusinessSystemUnknown"
    assert again["repeated"] is True


def test_a_command_to_an_unknown_channel_is_not_remembered(partition: Partition) -> None:
    early = envelope(ON, "c3", subject=channel_at_home("late"))
    register = envelope(REGISTER, "c4", subject=channel_at_home("late"))
    first, again, _, now = partition.run(early, early, register, early)

    assert rejection_of(first) == rejection_of(again) == "ChannelUnknown"
    assert "repeated" not in again
    assert now["type"] == "CommandAccepted"
    assert len(partition.state.idempotency_window) == len({"c1", "c2", "c4", "c3"})


def test_a_strangers_flood_does_not_shorten_anothers_window(partition: Partition) -> None:
    (first,) = partition.run(envelope(ON, "c3"))
    stranger = channel_at_home("stranger")
    partition.run(envelope(REGISTER, "s0", subject=stranger, accountid="stranger"))
    for start in range(0, 20_100, 300):
        unknown = [envelope(ON, f"u{start + number}", accountid="stranger") for number in range(150)]
        known = [envelope(ON, f"k{start + number}", accountid="stranger", subject=stranger) for number in range(300)]
        partition.run(*unknown, *known)
    partition.state = partition.restored()
    (again,) = partition.run(envelope(ON, "c3"))

    assert (again["data"], again["repeated"]) == (first["data"], True)
    assert len(partition.read(topics.OUTCOMES.name)) > 20_000


def test_an_account_that_used_up_its_window_is_refused_and_nobody_else_is(partition: Partition) -> None:
    partition.commands_per_account = len(partition.state.idempotency_window) + 2
    outcomes = partition.run(*(envelope(ON, f"c{number}") for number in range(3, 7)), envelope(ON, "c3"))
    stranger = envelope(REGISTER, "s1", subject=channel_at_home("stranger"), accountid="stranger")

    assert [rejection_of(outcome) for outcome in outcomes] == [None, None, "TooManyCommands", "TooManyCommands", None]
    assert outcomes[-1]["repeated"] is True
    assert rejection_of(partition.run(stranger)[0]) is None


def test_a_refused_command_can_be_sent_again_when_the_oldest_are_a_day_old(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.decider.idempotency_window.CHUNK_SIZE", 1)
    partition.commands_per_account = len(partition.state.idempotency_window) + 1
    early = envelope(ON, "c4")
    assert rejection_of(partition.run(envelope(ON, "c3"), early)[1]) == "TooManyCommands"
    partition.now += WINDOW_MS - 1
    partition.store_window()
    assert rejection_of(partition.run(early)[0]) == "TooManyCommands"
    partition.now += 1
    partition.store_window()
    outcome = partition.run(early)[0]
    assert rejection_of(outcome) is None
    assert "repeated" not in outcome


def test_a_batch_ends_before_a_repeat_whose_outcome_is_not_in_memory(partition: Partition) -> None:
    partition.run(envelope(ON, "c3"))
    partition.state = partition.restored()
    incoming = [partition.incoming(envelope(OFF, "c4")), partition.incoming(envelope(ON, "c3"))]
    batch = partition.batch()
    batch.process_in_time(incoming)

    assert batch.waits_for_outcome
    assert batch.fork.next_offset == incoming[1].offset


def test_after_a_restore_too(partition: Partition) -> None:
    (first,) = partition.run(envelope(ON, "c3"))
    partition.state = partition.restored()
    (again,) = partition.run(envelope(ON, "c3"))

    assert (again["data"], again["repeated"]) == (first["data"], True)


@pytest.mark.parametrize(
    "other",
    [
        envelope(OFF, "c3"),
        envelope(EditChannel(name="Store"), "c3"),
        envelope(ON, "c3", dryrun=True),
    ],
)
def test_an_id_reused_for_something_else_is_rejected(partition: Partition, other: dict[str, Any]) -> None:
    (first, reused, again) = partition.run(envelope(ON, "c3"), other, envelope(ON, "c3"))

    assert rejection_of(reused) == "CommandIdReused"
    assert reused["data"]["command"] == "c3"
    assert (again["data"], again["repeated"]) == (first["data"], True)
    assert len(partition.events()) == 4


def test_the_expected_version_is_no_content(partition: Partition) -> None:
    _, again = partition.run(envelope(ON, "c3", expectedversion=3), envelope(ON, "c3", expectedversion=0))

    assert again["repeated"] is True


def test_another_account_or_channel_may_use_the_id(partition: Partition) -> None:
    _, other_account, other_channel = partition.run(
        envelope(ON, "c3"),
        envelope(ON, "c3", accountid="other"),
        envelope(ON, "c3", subject=channel_at_home("late")),
    )

    assert rejection_of(other_account) == rejection_of(other_channel) == "ChannelUnknown"
