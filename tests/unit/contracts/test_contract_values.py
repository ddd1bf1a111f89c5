"""Small things that outsiders rely on: partitions, ids, times, countries, and the sentences of rejections."""

from __future__ import annotations

import string
from typing import Any, get_type_hints
from uuid import UUID

import phonenumbers
import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.countries import COUNTRIES, ISO_3166_ALPHA_2
from contracts.ids import is_id, new_id, uuid7
from contracts.message import rfc3339, unix_milliseconds
from contracts.message_types import EVENTS
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.partitioner import murmur2, partition_of
from contracts.rejections import REJECTIONS, InvalidCommand, rejection_named
from contracts.settings import RESOURCE_FORMS
from contracts.topics import COMPACTED, TOPICS
from tests.unit.commands import commands

YEAR_2200 = 7_258_118_400_000


@given(st.binary(max_size=70))
def test_murmur2_is_kafkas(key: bytes) -> None:
    assert murmur2(key) == aiokafka_murmur2(key) & 0xFFFFFFFF


@given(st.text(min_size=1, max_size=128), st.integers(1, 48))
def test_a_channel_lives_where_javas_and_aiokafkas_default_puts_it(channel: str, partitions: int) -> None:
    every = list(range(partitions))

    assert partition_of(channel, partitions) == DefaultPartitioner()(channel.encode(), every, every)


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_of_the_java_clients_own_test(key: bytes, hashed: int) -> None:
    """org.apache.kafka.common.utils.UtilsTest.testMurmur2."""
    assert murmur2(key) == hashed & 0xFFFFFFFF


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_an_id_is_a_uuid_of_version_7_that_holds_its_time(milliseconds: int, randomness: bytes) -> None:
    made = UUID(uuid7(milliseconds, randomness))

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == milliseconds
    assert str(made) == uuid7(milliseconds, randomness)


@given(st.integers(0, 2**47), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_ids_sort_by_time(milliseconds: int, one: bytes, other: bytes) -> None:
    assert uuid7(milliseconds, one) < uuid7(milliseconds + 1, other)


def test_fresh_ids_differ_and_are_names() -> None:
    made = [new_id() for _ in range(100)]

    assert len(set(made)) == 100
    assert all(map(is_id, made))


@pytest.mark.parametrize("name", ["a", "A.b_c:d-9", "x" * 128, "...", ".a", "..a", "a..", "019ab-7"])
def test_a_name(name: str) -> None:
    assert is_id(name)


@pytest.mark.parametrize("name", ["", "x" * 129, "~a", "a b", "a/b", "a\n", "ä", "٢", ".", ".."])
def test_no_name(name: str) -> None:
    assert not is_id(name)


@given(st.integers(0, YEAR_2200))
def test_times_are_written_and_read_exactly(milliseconds: int) -> None:
    text = rfc3339(milliseconds)

    assert unix_milliseconds(text) == milliseconds
    assert (len(text), text[10], text[-5], text[-1]) == (24, "T", ".", "Z")


@given(st.integers(0, YEAR_2200), st.integers(0, YEAR_2200))
def test_times_sort_as_text(one: int, other: int) -> None:
    assert (rfc3339(one) < rfc3339(other)) == (one < other)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-22T08:00:00Z", 1_795_334_400_000),
        ("2026-11-22T13:30:00+05:30", 1_795_334_400_000),
        ("2026-11-22t08:00:00.5z", 1_795_334_400_500),
        ("2026-11-22T08:00:00.123456789Z", 1_795_334_400_123),
    ],
)
def test_times_of_others_are_read(text: str, milliseconds: int) -> None:
    assert unix_milliseconds(text) == milliseconds


@given(st.text(max_size=40))
def test_no_text_raises_anything_but_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        unix_milliseconds(text)


def test_countries_are_the_officially_assigned_ones() -> None:
    assert len(ISO_3166_ALPHA_2) == 249
    assert all(len(code) == 2 and set(code) <= set(string.ascii_uppercase) for code in ISO_3166_ALPHA_2)
    assert {"ID", "IN", "AE", "BD", "SS", "CW", "PS", "TW"} <= ISO_3166_ALPHA_2
    assert not {"UK", "EU", "XK", "AN", "SU", "AC", "ZZ", "AA"} & ISO_3166_ALPHA_2


def test_countries_with_telephone_numbers_are_taken_whatever_iso_assigns() -> None:
    """Every region that libphonenumber knows: a number's country can always be chosen."""
    assert phonenumbers.SUPPORTED_REGIONS <= COUNTRIES
    assert {"AC", "TA", "XK"} == COUNTRIES - ISO_3166_ALPHA_2
    form = SaveOtpScheduling(enabled=True, countries=["XK", "ID"], use_own_numbers=False)
    assert form.countries == ["XK", "ID"]
    with pytest.raises(ValidationError, match="two capital letters"):
        SaveOtpScheduling(enabled=True, countries=["XX"], use_own_numbers=False)


_EXAMPLES: dict[Any, Any] = {str: "some-thing", int: 7, list[str]: ["one", "two"]}


@pytest.mark.parametrize("name", REJECTIONS)
def test_a_rejection_is_a_sentence_that_holds_its_facts(name: str) -> None:
    kind = REJECTIONS[name]
    hints = get_type_hints(kind)
    facts = {field: _EXAMPLES[hints[field]] for field in kind.model_fields}
    rejection = kind.model_validate(facts)

    assert rejection_named(name) is kind
    assert "{" not in rejection.message
    assert not {"rejection", "message", "version"} & facts.keys(), "they stand beside these in an outcome"
    assert not {"type", "title", "status", "detail"} & facts.keys(), "they stand beside these in a problem over HTTP"
    if kind is not InvalidCommand:
        assert rejection.message.endswith(".")
        assert rejection.message[0].isupper() or rejection.message[0] in "'s"
        assert 30 < len(rejection.message) < 300
    assert kind.model_validate_json(rejection.model_dump_json()) == rejection


def test_braces_in_facts_stay_what_they_are() -> None:
    assert InvalidCommand(problem="{system!r} {0}").message == "{system!r} {0}"


def test_a_rejection_of_a_newer_decider_has_no_type() -> None:
    assert rejection_named("SomethingNewer") is None


def test_topics_have_names_of_ours_and_keep_what_they_must() -> None:
    by_name = {topic.name.removeprefix("switchboard."): topic.settings for topic in TOPICS}

    assert len(by_name) == 16
    assert by_name["events"]["retention.ms"] == by_name["events"]["retention.bytes"] == "-1"
    assert {topic.name.removeprefix("switchboard.") for topic in COMPACTED} == {
        "channel-state",
        "signatures",
        "scheduling-resources",
        "rates",
        "outbox-positions",
        "partition-growth",
    }
    assert by_name["access-log"]["retention.ms"] == str(400 * 24 * 60 * 60 * 1000)
    assert all(
        0 < int(topic.settings["min.compaction.lag.ms"]) < int(topic.settings["max.compaction.lag.ms"])
        for topic in COMPACTED
    )


@given(commands)
def test_every_command_has_a_resource(command: Any) -> None:
    assert command.resource.split("/")[0] in {form.split("/")[0] for form in RESOURCE_FORMS}


def test_events_are_past_and_nothing_is_named_twice() -> None:
    assert all(name.endswith(("ed", "To")) for name in EVENTS)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_time_that_cannot_be_written_in_utc(text: str) -> None:
    with pytest.raises(ValueError, match="within the years 0001 to 9999 of UTC"):
        unix_milliseconds(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_the_first_and_the_last_time(text: str) -> None:
    assert rfc3339(unix_milliseconds(text)) == text.replace("Z", ".000Z")
