"""Reading a command: unreadable, invalid with a sentence that names the field, or good."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.envelope import (
    CommandEnvelope,
    EventEnvelope,
    InvalidEnvelope,
    UndecodableEnvelope,
    read_command,
    validation_message,
)
from contracts.message_types import COMMANDS
from contracts.outcome import CommandAccepted, CommandRejected, OutcomeEnvelope
from contracts.rejections import GracePeriodRunning

GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "c-1",
    "type": "ToggleSms",
    "source": "my-service",
    "subject": "ch-1",
    "accountid": "acme",
    "data": {"enabled": True},
}
TELLTALE = "zebra!crossing"
"""What no answer may repeat."""


def _read(**changes: Any) -> CommandEnvelope:
    return read_command(json.dumps(GOOD | changes).encode())


def test_the_example_of_the_interface() -> None:
    read = _read(
        time="2026-11-22T08:00:00Z",
        actor="ops@acme.example",
        expectedversion=7,
        datacontenttype="application/json",
        dryrun=True,
        correlationid="k",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )

    assert (read.id, read.type, read.subject, read.accountid) == ("c-1", "ToggleSms", "ch-1", "acme")
    assert (read.expectedversion, read.dryrun, read.data) == (7, True, {"enabled": True})


def test_what_may_be_left_out() -> None:
    read = read_command(json.dumps({name: value for name, value in GOOD.items() if name != "data"}).encode())

    assert (read.data, read.expectedversion, read.dryrun, read.actor) == ({}, None, False, None)


@pytest.mark.parametrize(
    "time",
    ["2026-11-22T08:00:00Z", "2026-11-22t08:00:00z", "2026-11-22T08:00:00.123456+05:30", "2026-11-22T08:00:00.1Z"],
)
def test_times(time: str) -> None:
    assert _read(time=time).time == time


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": TELLTALE}, "id"),
        ({"id": "~c"}, "id"),
        ({"id": "c\n"}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"subject": TELLTALE}, "subject"),
        ({"subject": "~checkpoint"}, "subject"),
        ({"subject": "a/b"}, "subject"),
        ({"accountid": TELLTALE}, "accountid"),
        ({"time": TELLTALE}, "time"),
        ({"time": "2026-11-22T08:00:00"}, "time"),
        ({"time": "2026-11-22"}, "time"),
        ({"time": "20261122T080000Z"}, "time"),
        ({"time": "2026-W47-7T08:00:00Z"}, "time"),
        ({"time": "2026-13-22T08:00:00Z"}, "time"),
        ({"time": "٢026-11-22T08:00:00Z"}, "time"),
        ({"time": 1}, "time"),
        ({"expectedversion": "7"}, "expectedversion"),
        ({"expectedversion": 7.0}, "expectedversion"),
        ({"expectedversion": True}, "expectedversion"),
        ({"expectedversion": -1}, "expectedversion"),
        ({"expectedversion": 2**53}, "expectedversion"),
        ({"dryrun": "yes"}, "dryrun"),
        ({"dryrun": 1}, "dryrun"),
        ({"actor": ""}, "actor"),
        ({"actor": "x" * 256}, "actor"),
        ({"datacontenttype": "text/" + TELLTALE}, "datacontenttype"),
        ({"data": [TELLTALE]}, "data"),
        ({"data": None}, "data"),
        ({"colour": TELLTALE}, "colour"),
    ],
)
def test_an_invalid_envelope_names_the_field_and_repeats_no_input(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidEnvelope) as refused:
        _read(**changes)

    assert repr(field) in refused.value.problem
    assert refused.value.problem.endswith(".")
    assert TELLTALE not in refused.value.problem
    assert refused.value.envelope.id == (changes | GOOD | changes)["id"]


@pytest.mark.parametrize("changes", [{"traceparent": "00-1"}, {"tracestate": "a=" + "b" * 1024}])
def test_a_bad_trace_header_is_ignored(changes: dict[str, Any]) -> None:
    envelope = _read(**changes)
    assert (envelope.traceparent, envelope.tracestate) == (None, None)


@pytest.mark.parametrize("field", ["id", "type", "source", "subject", "accountid"])
@pytest.mark.parametrize("value", [None, 1, "x" * 20_000, [], "missing"])
def test_without_the_five_strings_nobody_can_be_answered(field: str, value: Any) -> None:
    changed = {name: one for name, one in (GOOD | {field: value}).items() if not (name == field and value == "missing")}
    with pytest.raises(UndecodableEnvelope, match=repr(field)):
        read_command(json.dumps(changed).encode())


@pytest.mark.parametrize("field", ["id", "type", "source", "subject", "accountid"])
@pytest.mark.parametrize("value", ["", "x" * 1025])
def test_five_strings_are_enough_for_an_answer(field: str, value: str) -> None:
    with pytest.raises(InvalidEnvelope, match=repr(field)):
        read_command(json.dumps(GOOD | {field: value}).encode())


def test_data_beyond_what_our_parser_takes_is_answered_too() -> None:
    value = json.dumps(GOOD).replace('{"enabled": true}', '{"a":' * 300 + "1" + "}" * 300)
    with pytest.raises(
        InvalidEnvelope, match="'data' is nested more than 100 levels deep, or holds a number of thousands"
    ):
        read_command(value.encode())


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (r'{"data": {"enabled": true, "a": "\ud800"}}', "'data.a'"),
        (r'{"data": {"a": {"b": [1, "x\udc00y"]}}}', "'data.a.b.1'"),
        (r'{"data": {"\udfff": 1}}', "'data'"),
        (r'{"actor": "\ud83d"}', "'actor'"),
        ('{"data": {"a": ' + "9" * 5_000 + "}}", "'data.a'"),
    ],
)
def test_half_a_surrogate_pair_is_answered_with_its_field(text: str, field: str) -> None:
    value = json.dumps(GOOD)[:-1] + ", " + text[1:]
    with pytest.raises(InvalidEnvelope) as refused:
        read_command(value.encode())
    assert field in refused.value.problem
    refused.value.problem.encode()


def test_half_a_surrogate_pair_in_an_id_leaves_nobody_to_answer() -> None:
    with pytest.raises(UndecodableEnvelope):
        read_command(json.dumps(GOOD | {"id": "\ud800"}).encode())


def test_an_attribute_of_null_is_one_left_out() -> None:
    """CloudEvents 1.0.2, JSON format, 2.2."""
    names = ("time", "actor", "expectedversion", "dryrun", "correlationid", "traceparent", "datacontenttype")
    read = _read(**dict.fromkeys(names))

    assert not read.dryrun
    assert read.expectedversion is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b"NaN",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        json.dumps(GOOD).encode()[:-1],
        json.dumps(GOOD | {"source": "\ud800"}).encode(),
        json.dumps(GOOD).encode("utf-16"),
    ],
)
def test_what_is_no_object_is_unreadable(value: bytes | None) -> None:
    with pytest.raises(UndecodableEnvelope) as refused:
        read_command(value)
    assert len(str(refused.value)) < 300


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(value: bytes) -> None:
    with pytest.raises((UndecodableEnvelope, InvalidEnvelope)):
        read_command(value)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(TELLTALE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*CommandEnvelope.model_fields, "colour"]), _json, max_size=4))
def test_any_change_of_an_envelope_is_read_or_refused_with_a_sentence(changes: dict[str, Any]) -> None:
    with suppress(UndecodableEnvelope):
        problem = _problem_of(changes)
        assert problem is None or problem.endswith(".")
        assert problem is None or TELLTALE not in problem


def _problem_of(changes: dict[str, Any]) -> str | None:
    try:
        _read(**changes)
    except InvalidEnvelope as refused:
        return refused.problem
    return None


@given(st.sampled_from(sorted(COMMANDS)), st.data())
def test_any_data_is_read_or_refused_with_a_sentence(kind: str, data: st.DataObject) -> None:
    fields = [field.alias or name for name, field in COMMANDS[kind].model_fields.items()]
    values = data.draw(st.dictionaries(st.sampled_from([*fields, "colour"]), _json, max_size=5))
    try:
        COMMANDS[kind].model_validate(values)
    except ValidationError as error:
        problem = validation_message(error, "data")
        assert problem.endswith(".")
        assert TELLTALE not in problem


def test_an_invented_field_of_any_length_makes_no_long_answer() -> None:
    with pytest.raises(InvalidEnvelope) as refused:
        _read(**{f"{number}" + "x" * 100_000: 1 for number in range(9)})

    assert len(refused.value.problem) < 2_000


def test_an_event_of_a_newer_release_is_read_without_its_type() -> None:
    event = EventEnvelope.model_validate(
        GOOD
        | {
            "type": "SomethingNewer",
            "time": "2026-11-22T08:00:00.000Z",
            "sequence": 1,
            "partitionsequence": 1,
            "previoushash": "0" * 64,
            "resource": "channel",
            "causationid": "c-1",
            "correlationid": "c-1",
            "newattribute": 1,
        }
    )

    assert event.body() is None
    assert event.model_copy(update={"type": "SmsActivated", "data": {"newfield": 1}}).body() is not None


def test_an_outcome_is_read_as_its_own_type() -> None:
    outcome = GOOD | {"time": "2026-11-22T08:00:00.000Z", "causationid": "c-1", "correlationid": "c-1"}
    accepted = OutcomeEnvelope.model_validate(
        outcome | {"type": "CommandAccepted", "data": {"version": 3, "events": ["e"]}}
    )
    rejection = GracePeriodRunning(system="crm", key_id="key-1", valid_until="2026-11-23T08:00:00.000Z")
    data = {"rejection": "GracePeriodRunning", "message": rejection.message, "version": 3} | rejection.model_dump()
    rejected = OutcomeEnvelope.model_validate(outcome | {"type": "CommandRejected", "data": data})
    newer = OutcomeEnvelope.model_validate(outcome | {"type": "CommandRejected", "data": data | {"rejection": "Newer"}})

    assert accepted.body() == CommandAccepted(version=3, events=("e",))
    body, newer_body = rejected.body(), newer.body()
    assert isinstance(body, CommandRejected)
    assert body.typed() == rejection
    assert isinstance(newer_body, CommandRejected)
    assert newer_body.typed() is None
