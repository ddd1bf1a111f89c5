"""A batch of commands: each leads to exactly one outcome, dead letter or forward, and never harms another."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from pydantic import TypeAdapter

from contracts import topics
from contracts.business_system import OpenBusinessSystem
from contracts.channel import EditChannel, RegisterChannel
from contracts.partitioner import partition_of
from contracts.sealing import SealKey
from contracts.signature import RefreshSignature, RevealSignature
from contracts.sms import ToggleSms
from contracts.topics import LARGEST_RECORD_BYTES
from services.decider.batch import FAILURES_IN_A_ROW_LIMIT, LONGEST_COMMAND, LONGEST_DECIDING_S, TooManyFailures
from services.decider.partition_state import channel_key
from services.domain.records import RecordFormat
from services.domain.signing import fingerprint
from services.domain.state import Channel
from services.infrastructure.transactions import OutgoingRecord
from tests.unit.decider.partition import CHANNEL, ELSEWHERE, HOME, NOW, PARTITIONS, Incoming, Partition, envelope

REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
OPEN = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/hook")
ON, OFF = ToggleSms(enabled=True), ToggleSms(enabled=False)
OTHER_HOME = "other"


@pytest.fixture
def partition() -> Partition:
    """One with a channel at version 3 that has an open business system."""
    partition = Partition()
    outcomes = partition.run(envelope(REGISTER, "c1"), envelope(OPEN, "c2"))
    assert [outcome["data"]["version"] for outcome in outcomes] == [1, 3]
    return partition


def _rejection(outcome: dict[str, Any]) -> str | None:
    name: str | None = outcome["data"].get("rejection")
    return name


class TestOutcomes:
    def test_an_accepted_command(self, partition: Partition) -> None:
        (outcome,) = partition.run(envelope(ON, "c3", correlationid="k", actor="ops@acme.example", traceparent="00-1"))
        event = partition.events()[-1]

        assert outcome["data"] == {"version": 4, "events": [event["id"]]}
        assert (outcome["type"], outcome["subject"], outcome["accountid"]) == ("CommandAccepted", CHANNEL, "acme")
        assert (event["type"], event["sequence"], event["partitionsequence"]) == ("SmsActivated", 4, 4)
        assert (event["resource"], event["data"]) == ("sms", {})
        for record in (outcome, event):
            assert (record["causationid"], record["correlationid"]) == ("c3", "k")
            assert (record["actor"], record["traceparent"]) == ("ops@acme.example", "00-1")
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

        assert (_rejection(outcome), outcome["data"]["version"]) == ("ChannelUnknown", 0)

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
        batch.take_in_time(incoming, lambda: next(ticks) * LONGEST_DECIDING_S / 3)

        assert batch.fork.next_offset == incoming[3].offset + 1

    def test_however_long_one_takes_it_is_decided(self, partition: Partition) -> None:
        incoming = [partition.incoming(envelope(ON, f"c{number}")) for number in range(3, 9)]
        batch, ticks = partition.batch(), iter(range(99))
        batch.take_in_time(incoming, lambda: next(ticks) * LONGEST_DECIDING_S * 3)

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
        assert _rejection(outcome) == "InvalidCommand"
        assert "version" not in outcome["data"]
        assert says in outcome["data"]["message"]
        assert "digest" not in dict(partition.read(topics.OUTCOMES.name)[-1].headers)

        (again,) = partition.run(envelope(ON, "c3"))
        assert again["type"] == "CommandAccepted"
        assert "repeated" not in again

    def test_a_command_has_a_longest_form(self, partition: Partition) -> None:
        value = json.dumps(envelope(ON, "c3")).encode().ljust(LONGEST_COMMAND)
        (outcome,) = partition.run(value + b" ")
        assert _rejection(outcome) == "InvalidCommand"
        assert outcome["data"]["message"] == "The command is 524,289 bytes long; at most 524,288 are allowed."

        assert partition.run(value)[0]["type"] == "CommandAccepted"

    def test_a_list_is_refused_at_its_first_wrong_item(self, partition: Partition) -> None:
        form = {"enabled": True, "countries": ["ID", "x", "x"], "use_own_numbers": False}
        (outcome,) = partition.run(envelope("SaveOtpScheduling", "c3", data=form))

        assert "'data.countries.1' is wrong" in outcome["data"]["message"]
        assert "'data.countries.2'" not in outcome["data"]["message"]


class TestRepeats:
    @pytest.mark.parametrize("batches", [1, 2])
    def test_the_same_id_again_has_the_same_outcome_and_no_new_event(self, partition: Partition, batches: int) -> None:
        command = envelope(ON, "c3")
        outcomes = (
            partition.run(command, command) if batches == 1 else [*partition.run(command), *partition.run(command)]
        )

        assert outcomes[0]["data"] == outcomes[1]["data"]
        assert "repeated" not in outcomes[0]
        assert outcomes[1]["repeated"] is True
        assert len(partition.events()) == 4

    def test_a_rejection_is_repeated_although_it_would_be_accepted_now(self, partition: Partition) -> None:
        early = envelope(ON, "c3", subject=_channel_at_home("late"))
        register = envelope(REGISTER, "c4", subject=_channel_at_home("late"))
        first, _, again = partition.run(early, register, early)

        assert _rejection(first) == _rejection(again) == "ChannelUnknown"
        assert again["repeated"] is True

    def test_after_a_restore_too(self, partition: Partition) -> None:
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
    def test_an_id_reused_for_something_else_is_rejected(self, partition: Partition, other: dict[str, Any]) -> None:
        (first, reused, again) = partition.run(envelope(ON, "c3"), other, envelope(ON, "c3"))

        assert _rejection(reused) == "CommandIdReused"
        assert reused["data"]["command"] == "c3"
        assert (again["data"], again["repeated"]) == (first["data"], True)
        assert len(partition.events()) == 4

    def test_the_expected_version_is_no_content(self, partition: Partition) -> None:
        _, again = partition.run(envelope(ON, "c3", expectedversion=3), envelope(ON, "c3", expectedversion=0))

        assert again["repeated"] is True

    def test_another_account_or_channel_may_use_the_id(self, partition: Partition) -> None:
        _, other_account, other_channel = partition.run(
            envelope(ON, "c3"),
            envelope(ON, "c3", accountid="other"),
            envelope(ON, "c3", subject=_channel_at_home("late")),
        )

        assert _rejection(other_account) == _rejection(other_channel) == "ChannelUnknown"


class TestForwarding:
    def test_a_command_on_the_wrong_partition_is_sent_home_with_its_key_put_right(self) -> None:
        away = Partition(number=(HOME + 1) % PARTITIONS)
        command = envelope(REGISTER, "c1")
        incoming = away.incoming(command, headers=[("traceparent", b"00-1")])
        incoming.key = b"wrong"
        outcomes = away.commit([incoming])

        assert outcomes == []
        (forwarded,) = away.forwarded
        assert (forwarded.partition, forwarded.key) == (HOME, CHANNEL.encode())
        assert forwarded.value == json.dumps(command).encode()
        assert dict(forwarded.headers) == {"traceparent": b"00-1", "forwarded": str(away.number).encode()}

    def test_it_is_answered_at_home(self) -> None:
        home = Partition()
        incoming = home.incoming(envelope(REGISTER, "c1"), headers=[("forwarded", b"3")])

        assert [outcome["type"] for outcome in home.commit([incoming])] == ["CommandAccepted"]

    def test_never_twice(self) -> None:
        away = Partition(number=(HOME + 1) % PARTITIONS)
        outcomes = away.commit([away.incoming(envelope(REGISTER, "c1"), headers=[("forwarded", b"0")])])

        assert (outcomes, away.forwarded) == ([], [])
        (letter,) = away.read(topics.DEAD_LETTERS.name)
        assert b"forwarded once already" in dict(letter.headers)["reason"]

    def test_an_invalid_command_is_answered_at_home_too(self) -> None:
        partition = Partition()
        outcomes = partition.run(envelope(ON, "c1", subject=ELSEWHERE, data={}))

        assert outcomes == []
        assert [record.key for record in partition.forwarded] == [ELSEWHERE.encode()]

    @pytest.mark.parametrize(
        ("header", "count", "subject"),
        [(("", None), 500_000, ELSEWHERE), (("\u20ac" * 1_000, b""), 500, ELSEWHERE), (("h", b"x"), 1, "s" * 16_000)],
        ids=["many headers", "long characters", "a long key"],
    )
    @pytest.mark.parametrize("spare", [10, 2_000, 20_000])
    def test_what_is_forwarded_is_never_larger_than_the_broker_takes(
        self, header: tuple[str, bytes], count: int, subject: str, spare: int
    ) -> None:
        """It would be refused again and again, and the partition would stand still."""
        away = Partition(number=next(one for one in range(PARTITIONS) if one != partition_of(subject, PARTITIONS)))
        incoming = away.incoming(envelope(ON, "c1", subject=subject), headers=[header] * count)
        incoming.key = None
        incoming.value = (incoming.value or b"") + b" " * (LARGEST_RECORD_BYTES - _batch_size(incoming) - spare)
        assert _batch_size(incoming) <= LARGEST_RECORD_BYTES

        assert away.commit([incoming]) == []
        letters = away.read(topics.DEAD_LETTERS.name)
        assert len(away.forwarded) + len(letters) == 1
        assert all(_batch_size(record) <= LARGEST_RECORD_BYTES for record in away.forwarded)
        assert all(letter.value == incoming.value for letter in letters)


def _batch_size(record: Incoming | OutgoingRecord) -> int:
    """Bytes of the batch that holds it alone, which is what the broker measures."""
    batch = DefaultRecordBatchBuilder(2, 0, 1, 1, 1, 1, 4 * LARGEST_RECORD_BYTES)
    batch.append(0, timestamp=NOW, key=record.key, value=record.value, headers=list(record.headers))
    return int(batch.size())


class TestDeadLetters:
    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (b"no json", b"not JSON"),
            (b"[]", b"no object"),
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
        """A record that the broker refuses would hold up its partition for ever."""
        partition.run(value)

        for records in partition.log.values():
            assert all(len(record.value or b"") < 1_900_000 for record in records)


class TestFailures:
    """The decision raises where the state record of a channel is damaged, or of a release yet to come."""

    @pytest.fixture(params=[b'{"v":1}', b"\xff", b'{"v":99}'])
    def damaged(self, partition: Partition, request: pytest.FixtureRequest) -> Partition:
        partition.state = partition.restored()
        partition.state.records[channel_key(CHANNEL)] = request.param
        return partition

    def test_the_command_is_rejected_and_kept_and_the_rest_is_unharmed(self, damaged: Partition) -> None:
        other = _channel_at_home("other")
        outcomes = damaged.run(envelope(ON, "c3"), envelope(REGISTER, "c4", subject=other), envelope(ON, "c5"))

        assert [_rejection(outcome) for outcome in outcomes] == ["DecisionFailed", None, "DecisionFailed"]
        letters = damaged.read(topics.DEAD_LETTERS.name)
        assert [json.loads(letter.value or b"")["id"] for letter in letters] == ["c3", "c5"]
        assert all(b"raised" in dict(letter.headers)["reason"] for letter in letters)
        assert [event["subject"] for event in damaged.events()[3:]] == [other]

    def test_the_same_id_again_is_the_same_failure(self, damaged: Partition) -> None:
        _, again, reused = damaged.run(envelope(ON, "c3"), envelope(ON, "c3"), envelope(OFF, "c3"))

        assert (_rejection(again), again["repeated"]) == ("DecisionFailed", True)
        assert _rejection(reused) == "CommandIdReused"
        assert len(damaged.read(topics.DEAD_LETTERS.name)) == 1

    def test_so_many_in_a_row_stop_the_partition(self, damaged: Partition) -> None:
        outcomes = damaged.run(*(envelope(ON, f"f{number}") for number in range(FAILURES_IN_A_ROW_LIMIT - 1)))
        assert len(outcomes) == FAILURES_IN_A_ROW_LIMIT - 1 == 19

        with pytest.raises(TooManyFailures, match=f"Partition {HOME} stops: 20 decisions in a row"):
            damaged.run(envelope(ON, "last"))

    def test_a_decision_in_between_starts_the_count_again(self, damaged: Partition) -> None:
        damaged.run(*(envelope(ON, f"f{number}") for number in range(FAILURES_IN_A_ROW_LIMIT - 1)))
        damaged.run(envelope(ON, "fine", subject=_channel_at_home("other")))

        damaged.run(*(envelope(ON, f"g{number}") for number in range(FAILURES_IN_A_ROW_LIMIT - 1)))

    def test_nothing_remains_of_a_decision_that_failed_half_way(self, partition: Partition) -> None:
        """The secret of the current signature is gone, so revealing it sealed fails after the rules accepted."""
        partition.state.signatures.clear()
        (outcome,) = partition.run(envelope(RevealSignature(system="crm", seal_to=SealKey().seal_to), "c3"))

        assert _rejection(outcome) == "DecisionFailed"
        assert outcome["data"]["version"] == 3
        assert len(partition.events()) == 3
        assert partition.restored().records == partition.state.records


class TestSecrets:
    def test_a_secret_is_sealed_to_who_asks_and_its_fingerprint_matches(self, partition: Partition) -> None:
        key = SealKey()
        refreshed, revealed = partition.run(
            envelope(RefreshSignature(system="crm", seal_to=key.seal_to), "c3"),
            envelope(RevealSignature(system="crm", seal_to=key.seal_to), "c4"),
        )

        shown = key.open(refreshed["data"]["sealed"])
        assert shown.startswith("whsec_")
        assert shown == key.open(revealed["data"]["sealed"])
        assert fingerprint(base64.b64decode(shown[6:])) == partition.events()[3]["data"]["fingerprint"]

    def test_the_secret_is_nowhere_in_the_log(self, partition: Partition) -> None:
        key = SealKey()
        (refreshed,) = partition.run(envelope(RefreshSignature(system="crm", seal_to=key.seal_to), "c3"))
        shown = key.open(refreshed["data"]["sealed"]).removeprefix("whsec_")

        everything = b"".join(record.value or b"" for records in partition.log.values() for record in records)
        assert shown.encode() not in everything
        assert base64.b64decode(shown).hex().encode() not in everything

    def test_a_replaced_secret_is_deleted(self, partition: Partition) -> None:
        partition.run(envelope(RefreshSignature(system="crm", grace_seconds=0), "c3"))

        assert list(partition.state.signatures) == [b"ch-1/crm/key-2"]
        assert list(partition.restored().signatures) == [b"ch-1/crm/key-2"]

    @pytest.mark.parametrize("dry_run", [False, True])
    @pytest.mark.parametrize("command", [RefreshSignature, RevealSignature])
    def test_a_key_that_nothing_can_be_sealed_to(
        self, partition: Partition, command: type[RefreshSignature | RevealSignature], *, dry_run: bool
    ) -> None:
        low_order = base64.b64encode(bytes(32)).decode()
        (outcome,) = partition.run(envelope(command(system="crm", seal_to=low_order), "c3", dryrun=dry_run))

        assert _rejection(outcome) == "SealKeyRefused"
        assert len(partition.events()) == 3
        assert list(partition.state.signatures) == [b"ch-1/crm/key-1"]

    def test_a_dry_run_seals_nothing(self, partition: Partition) -> None:
        reveal = RevealSignature(system="crm", seal_to=SealKey().seal_to)
        (outcome,) = partition.run(envelope(reveal, "c3", dryrun=True))

        assert outcome["data"] == {
            "version": 3,
            "would_append": [{"type": "SignatureRevealed", "data": {"system": "crm", "key_id": "key-1"}}],
        }


def _channel_at_home(prefix: str) -> str:
    return next(name for number in range(99) if partition_of(name := f"{prefix}-{number}", PARTITIONS) == HOME)


def test_a_channel_is_decoded_once_a_batch(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many commands look at it, and though its changes are gathered in the end."""
    decoded = []

    class Counted(RecordFormat[Channel]):
        def decode(self, value: bytes) -> Channel:
            decoded.append(value)
            return super().decode(value)

    monkeypatch.setattr("services.decider.partition_state.CHANNEL", Counted(TypeAdapter(Channel)))
    partition.state = partition.restored()
    partition.run(envelope(ON, "c3"), envelope(OFF, "c4"), envelope(ON, "c5"), envelope(REGISTER, "c6"))
    assert len(decoded) == 1
