"""A batch of commands: each leads to exactly one outcome, dead letter or forward, and never affects another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from contracts import topics
from contracts.sealing import SealKey
from contracts.signature import RevealSignature
from services.decider.batch import BATCH_TIME_LIMIT_S, COMMAND_BYTES_LIMIT, CONSECUTIVE_FAILURES_LIMIT, TooManyFailures
from services.domain.state import Channel
from services.domain.state_codec import RecordFormat
from services.domain.state_topic import channel_key
from tests.unit.decider.partition import (
    CHANNEL,
    HOME,
    OFF,
    ON,
    REGISTER,
    Partition,
    channel_at_home,
    envelope,
    rejection_of,
)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class TestOutcomes:
    def test_an_accepted_command(self, partition: Partition) -> None:
        (outcome,) = partition.run(envelope(ON, "c3", correlationid="k", actor="ops@acme.example", traceparent=TRACE))
        event = partition.events()[-1]

        assert outcome["data"] == {"version": 4, "events": [event["id"]]}
        assert (outcome["type"], outcome["subject"], outcome["accountid"]) == ("CommandAccepted", CHANNEL, "acme")
        assert (event["type"], event["sequence"], event["partitionsequence"]) == ("SmsActivated", 4, 4)
        assert (event["resource"], event["data"]) == ("sms", {})
        for record in (outcome, event):
            assert (record["causationid"], record["correlationid"]) == ("c3", "k")
            assert (record["actor"], record["traceparent"]) == ("ops@acme.example", TRACE)
            assert (record["source"], record["specversion"]) == ("switchboard", "1.0")
            assert record["time"] == "2026-11-22T08:00:00.000Z"

    def test_a_rejected_command(self, partition: Partition) -> None:
        (outcome,) = partition.run(envelope(REGISTER, "c3"))

        assert outcome["type"] == "CommandRejected"
        assert outcome["correlationid"] == "c3"
        assert outcome["data"] == {
            "rejection": "ChannelAlreadyRegistered",
            "message": "Channel 'ch-1' is registered already; EditChannel changes its name and provider.",
            "version": 3,
            "channel": "ch-1",
        }

    def test_another_account_learns_no_version(self, partition: Partition) -> None:
        (outcome,) = partition.run(envelope(ON, "c3", accountid="other"))

        assert (rejection_of(outcome), outcome["data"]["version"]) == ("ChannelUnknown", 0)

    def test_what_would_change_nothing_is_accepted_without_events(self, partition: Partition) -> None:
        (outcome,) = partition.run(envelope(OFF, "c3"))

        assert outcome["data"] == {"version": 3, "events": []}
        assert len(partition.events()) == 3

    def test_time_never_goes_backwards_within_a_channel(self, partition: Partition) -> None:
        partition.now -= 60_000
        partition.run(envelope(ON, "c3"))

        assert partition.events()[-1]["time"] == "2026-11-22T08:00:00.000Z"

    def test_the_next_offset_counts_whatever_came(self, partition: Partition) -> None:
        partition.run(b"no json", None, envelope("Unknown", "c3"), envelope(ON, "c4"))

        assert partition.state.checkpoint.next_offset == 6
        assert partition.restored().checkpoint == partition.state.checkpoint

    def test_what_takes_too_long_is_left_for_the_next_batch(self, partition: Partition) -> None:
        incoming = [partition.incoming(envelope(ON, f"c{number}")) for number in range(3, 9)]
        batch, ticks = partition.batch(), iter(range(99))
        batch.process_in_time(incoming, lambda: next(ticks) * BATCH_TIME_LIMIT_S / 3)

        assert batch.fork.next_offset == incoming[3].offset + 1

    def test_however_long_one_takes_it_is_decided(self, partition: Partition) -> None:
        incoming = [partition.incoming(envelope(ON, f"c{number}")) for number in range(3, 9)]
        batch, ticks = partition.batch(), iter(range(99))
        batch.process_in_time(incoming, lambda: next(ticks) * BATCH_TIME_LIMIT_S * 3)

        assert batch.fork.next_offset == incoming[0].offset + 1


class TestInvalid:
    @pytest.mark.parametrize(
        ("value", "says"),
        [
            (envelope("MakeCoffee", "c3"), "'type'"),
            (envelope(ON, "c3", data={"enabled": "yes"}), "'data.enabled'"),
            (envelope(ON, "c3", data={"enabled": True, "x": 1}), "'data.x'"),
            (envelope(ON, "c3", data=[]), "'data'"),
            (envelope(ON, "c/3"), "'id'"),
            (envelope(ON, "c3", expectedversion=-1), "'expectedversion'"),
            (envelope(ON, "c3", colour="red"), "'colour'"),
        ],
    )
    def test_it_is_rejected_without_version_and_its_id_can_be_used_again(
        self, partition: Partition, value: dict[str, Any], says: str
    ) -> None:
        (outcome,) = partition.run(value)
        assert rejection_of(outcome) == "InvalidCommand"
        assert "version" not in outcome["data"]
        assert says in outcome["data"]["message"]
        assert "digest" not in dict(partition.read(topics.OUTCOMES.name)[-1].headers)

        (again,) = partition.run(envelope(ON, "c3"))
        assert again["type"] == "CommandAccepted"
        assert "repeated" not in again

    def test_a_command_has_a_longest_form(self, partition: Partition) -> None:
        value = json.dumps(envelope(ON, "c3")).encode().ljust(COMMAND_BYTES_LIMIT)
        (outcome,) = partition.run(value + b" ")
        assert rejection_of(outcome) == "InvalidCommand"
        assert outcome["data"]["message"] == "The command is 524,289 bytes long; at most 524,288 are allowed."

        assert partition.run(value)[0]["type"] == "CommandAccepted"

    def test_a_list_is_refused_at_its_first_wrong_item(self, partition: Partition) -> None:
        form = {"enabled": True, "countries": ["ID", "x", "x"], "use_own_numbers": False}
        (outcome,) = partition.run(envelope("SaveOtpScheduling", "c3", data=form))

        assert "'data.countries.1' is wrong" in outcome["data"]["message"]
        assert "'data.countries.2'" not in outcome["data"]["message"]


class TestDeadLetters:
    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (b"no json", b"not JSON"),
            (b"[]", b"not an object"),
            (b'{"id":"c1"}', b"'type' is missing"),
            (None, b"no value"),
            (b"\xff", b"not JSON"),
            (b"[" * 5_000, b"not JSON"),
        ],
    )
    def test_what_has_no_readable_envelope_is_kept_untouched(
        self, partition: Partition, value: bytes | None, reason: bytes
    ) -> None:
        outcomes = partition.run(value, envelope(ON, "c3"))

        assert [outcome["type"] for outcome in outcomes] == ["CommandAccepted"]
        (letter,) = partition.read(topics.DEAD_LETTERS.name)
        headers = dict(letter.headers)
        assert (letter.key, letter.value) == (CHANNEL.encode(), value)
        assert reason in headers["reason"]
        assert headers["topic"] == b"switchboard.commands"
        assert (headers["partition"], headers["offset"]) == (str(HOME).encode(), b"2")

    @pytest.mark.parametrize(
        "value", [b"x" * 2_500_000, json.dumps(envelope(ON, "c3", **{"y" * 2_500_000: 1})).encode()]
    )
    def test_no_answer_is_larger_than_a_record_may_be(self, partition: Partition, value: bytes) -> None:
        """A record that the broker refuses would block its partition permanently."""
        partition.run(value)

        for records in partition.log.values():
            assert all(len(record.value or b"") < 1_900_000 for record in records)


class TestFailures:
    """A decision raises if the channel's state record is damaged, or was written by a newer release."""

    @pytest.fixture(params=[b'{"v":1}', b"\xff", b'{"v":99}'])
    def damaged(self, partition: Partition, request: pytest.FixtureRequest) -> Partition:
        partition.state = partition.restored()
        partition.state.records[channel_key(CHANNEL)] = request.param
        return partition

    def test_the_command_is_rejected_and_kept_and_the_rest_is_unharmed(self, damaged: Partition) -> None:
        other = channel_at_home("other")
        outcomes = damaged.run(envelope(ON, "c3"), envelope(REGISTER, "c4", subject=other), envelope(ON, "c5"))

        assert [rejection_of(outcome) for outcome in outcomes] == ["DecisionFailed", None, "DecisionFailed"]
        letters = damaged.read(topics.DEAD_LETTERS.name)
        assert [json.loads(letter.value or b"")["id"] for letter in letters] == ["c3", "c5"]
        assert all(b"raised" in dict(letter.headers)["reason"] for letter in letters)
        assert [event["subject"] for event in damaged.events()[3:]] == [other]

    def test_the_same_id_again_is_the_same_failure(self, damaged: Partition) -> None:
        _, again, reused = damaged.run(envelope(ON, "c3"), envelope(ON, "c3"), envelope(OFF, "c3"))

        assert (rejection_of(again), again["repeated"]) == ("DecisionFailed", True)
        assert rejection_of(reused) == "CommandIdReused"
        assert len(damaged.read(topics.DEAD_LETTERS.name)) == 1

    def test_so_many_in_a_row_stop_the_partition(self, damaged: Partition) -> None:
        outcomes = damaged.run(*(envelope(ON, f"f{number}") for number in range(CONSECUTIVE_FAILURES_LIMIT - 1)))
        assert len(outcomes) == CONSECUTIVE_FAILURES_LIMIT - 1 == 19

        with pytest.raises(TooManyFailures, match=f"Partition {HOME} stops: 20 decisions in a row"):
            damaged.run(envelope(ON, "last"))

    def test_a_decision_in_between_starts_the_count_again(self, damaged: Partition) -> None:
        damaged.run(*(envelope(ON, f"f{number}") for number in range(CONSECUTIVE_FAILURES_LIMIT - 1)))
        damaged.run(envelope(ON, "fine", subject=channel_at_home("other")))

        damaged.run(*(envelope(ON, f"g{number}") for number in range(CONSECUTIVE_FAILURES_LIMIT - 1)))

    def test_nothing_remains_of_a_decision_that_failed_half_way(self, partition: Partition) -> None:
        """The secret of the current signature is gone, so revealing it sealed fails after the rules accepted."""
        partition.state.signatures.clear()
        (outcome,) = partition.run(envelope(RevealSignature(system="crm", seal_to=SealKey().seal_to), "c3"))

        assert rejection_of(outcome) == "DecisionFailed"
        assert outcome["data"]["version"] == 3
        assert len(partition.events()) == 3
        assert partition.restored().records == partition.state.records


def test_a_channel_is_decoded_once_a_batch(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    """Independent of the number of its commands; encoding its changes does not decode it again."""
    decoded = []

    class Counted(RecordFormat[Channel]):
        def decode(self, value: bytes) -> Channel:
            decoded.append(value)
            return super().decode(value)

    monkeypatch.setattr("services.decider.partition_state.CHANNEL", Counted(TypeAdapter(Channel)))
    partition.state = partition.restored()
    partition.run(envelope(ON, "c3"), envelope(OFF, "c4"), envelope(ON, "c5"), envelope(REGISTER, "c6"))
    assert len(decoded) == 1
