"""A command on the wrong partition is forwarded to the home partition of its channel, once."""

from __future__ import annotations

import json

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from contracts import topics
from contracts.partitioner import partition_of
from contracts.topics import LARGEST_RECORD_BYTES
from services.infrastructure.transactions import OutgoingRecord
from tests.unit.decider.partition import (
    CHANNEL,
    ELSEWHERE,
    HOME,
    NOW,
    ON,
    PARTITIONS,
    REGISTER,
    Incoming,
    Partition,
    envelope,
)


def test_a_command_on_the_wrong_partition_is_sent_home_with_its_key_put_right() -> None:
    away = Partition(number=(HOME + 1) % PARTITIONS)
    command = envelope(REGISTER, "c1")
    incoming = away.incoming(command, headers=[("traceparent", b"00-1")])
    incoming.key = b"wrong"
    outcomes = away.commit([incoming])

    assert outcomes == []
    (forwarded,) = away.forwarded
    assert (forwarded.partition, forwarded.key) == (HOME, CHANNEL.encode())
    assert forwarded.value == json.dumps(command).encode()
    assert dict(forwarded.headers) == {"traceparent": b"00-1", "switchboard-forwarded": str(away.number).encode()}


def test_it_is_answered_at_home() -> None:
    home = Partition()
    incoming = home.incoming(envelope(REGISTER, "c1"), headers=[("switchboard-forwarded", b"3")])

    assert [outcome["type"] for outcome in home.commit([incoming])] == ["CommandAccepted"]


@pytest.mark.parametrize("value", [b"for=192.0.2.60;proto=http", b"3", b""])
def test_a_header_forwarded_of_somebody_else_says_nothing(value: bytes) -> None:
    away = Partition(number=(HOME + 1) % PARTITIONS)

    assert away.commit([away.incoming(envelope(REGISTER, "c1"), headers=[("forwarded", value)])]) == []
    assert [record.partition for record in away.forwarded] == [HOME]
    assert not away.read(topics.DEAD_LETTERS.name)


def test_never_twice() -> None:
    away = Partition(number=(HOME + 1) % PARTITIONS)
    outcomes = away.commit([away.incoming(envelope(REGISTER, "c1"), headers=[("switchboard-forwarded", b"0")])])

    assert (outcomes, away.forwarded) == ([], [])
    (letter,) = away.read(topics.DEAD_LETTERS.name)
    assert b"forwarded once already" in dict(letter.headers)["reason"]


def test_an_invalid_command_is_answered_at_home_too() -> None:
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
    header: tuple[str, bytes], count: int, subject: str, spare: int
) -> None:
    """The broker would refuse it every time, and the partition would be blocked."""
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
    """Bytes of a batch with only this record, which is what the broker limits."""
    batch = DefaultRecordBatchBuilder(2, 0, 1, 1, 1, 1, 4 * LARGEST_RECORD_BYTES)
    batch.append(0, timestamp=NOW, key=record.key, value=record.value, headers=list(record.headers))
    return int(batch.size())
