"""A batch pauses before a laborious check of a schema; a command whose check timed out is rejected for good."""

from __future__ import annotations

from typing import Any

import pytest

from contracts import topics
from contracts.business_system import OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.intent import AddIntent
from contracts.sms import ToggleSms
from services.domain.json_schema import TIMED_OUT, VALID
from tests.hostile_schemas import references_to_enum
from tests.unit.decider.partition import Partition, envelope, rejection_of

SCHEMA = {"allOf": [{"type": "object"}]}
REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
OPEN = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/hook")
ON = ToggleSms(enabled=True)


def add(schema: dict[str, Any]) -> AddIntent:
    return AddIntent(system="crm", code="ORDER", name="Order", default_data={}, json_schema=schema)


@pytest.fixture
def partition() -> Partition:
    partition = Partition()
    partition.run(envelope(REGISTER, "c1"), envelope(OPEN, "c2"))
    return partition


def test_the_batch_pauses_before_the_command_and_goes_on_with_it(partition: Partition) -> None:
    values = [envelope(ON, "c3"), envelope(add(SCHEMA), "c4"), envelope(ToggleSms(enabled=False), "c5")]
    incoming = [partition.incoming(value) for value in values]
    batch = partition.batch()

    batch.process_in_time(incoming)

    assert batch.needed_check is not None
    assert (batch.needed_check.schema, batch.needed_check.data) == (SCHEMA, {})
    assert batch.fork.next_offset == incoming[1].offset
    before = len(batch.records)

    batch.config.schemas.remember(SCHEMA, {}, VALID)
    batch.process_in_time(incoming[batch.processed :])

    assert batch.needed_check is None
    assert batch.fork.next_offset == incoming[2].offset + 1
    topics_of_rest = [record.topic for record in batch.records[before:]]
    assert topics_of_rest == [topics.EVENTS.name, topics.OUTCOMES.name] * 2


def test_what_timed_out_is_rejected_and_the_rejection_is_remembered(partition: Partition) -> None:
    partition.schemas.remember(SCHEMA, {}, TIMED_OUT)
    command = envelope(add(SCHEMA), "c3")

    [first] = partition.run(command)
    partition.schemas.remember(SCHEMA, {}, VALID)
    [again] = partition.run(command)

    assert rejection_of(first) == "DecisionTimedOut"
    assert first["data"]["limit_ms"] == 250
    assert again["repeated"]
    assert again["data"] == first["data"]


def test_a_laborious_schema_is_not_checked_in_the_batch(partition: Partition) -> None:
    schema, data = references_to_enum(80)
    wide = AddIntent(system="crm", code="ORDER", name="Order", default_data={"a": data}, json_schema=schema)
    batch = partition.batch()

    batch.process_in_time([partition.incoming(envelope(wide, "c3"))])

    assert batch.needed_check is not None


def test_a_simple_schema_is_checked_at_once(partition: Partition) -> None:
    [outcome] = partition.run(envelope(add({"properties": {"order": {"type": "string"}}}), "c3"))

    assert rejection_of(outcome) is None


def test_a_new_name_needs_no_check(partition: Partition) -> None:
    partition.schemas.remember(SCHEMA, {}, VALID)
    partition.run(envelope(add(SCHEMA), "c3"))
    partition.schemas.remember(SCHEMA, {}, TIMED_OUT)
    rename = envelope("EditIntent", "c4", data={"system": "crm", "code": "ORDER", "name": "Orders"})

    [outcome] = partition.run(rename)

    assert rejection_of(outcome) is None
