"""The state is folded only from a complete log, and lost secrets are reported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from contracts import topics
from contracts.business_system import DisableBusinessSystem, OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.signature import RefreshSignature
from contracts.sms import ToggleSms
from services.decider.partition_state import Fork, PartitionState
from services.decider.rebuild_state import RebuildRefused, _apply, _lost_secrets
from tests.unit.decider.partition import HOME, Partition, envelope

URL = "https://crm.example/hook"


@pytest.fixture
def partition() -> Partition:
    partition = Partition()
    partition.run(
        envelope(RegisterChannel(channel_type="line", name="Shop", enterprise_authenticated=True), "c1"),
        envelope(OpenBusinessSystem(system="crm", name="CRM", api_request_url=URL), "c2"),
        envelope(DisableBusinessSystem(system="crm"), "c3"),
        envelope(RefreshSignature(system="erp", api_request_url=URL), "c4"),
        envelope(ToggleSms(enabled=True), "c5"),
    )
    return partition


def _values(partition: Partition) -> list[bytes]:
    return [record.value or b"" for record in partition.read(topics.EVENTS.name)]


def _folded(values: Sequence[bytes]) -> PartitionState:
    state = PartitionState()
    fork = Fork(state)
    for offset, value in enumerate(values):
        record: Any = SimpleNamespace(topic=topics.EVENTS.name, partition=HOME, offset=offset, value=value)
        _apply(fork, record)
    fork.checkpoint_at(0)
    state.adopt(fork, 0, 0)
    return state


def _changed(value: bytes, **attributes: object) -> bytes:
    return json.dumps(json.loads(value) | attributes).encode()


def test_what_is_folded_is_what_the_owner_has(partition: Partition) -> None:
    assert _folded(_values(partition)).records == partition.state.records


def test_a_log_with_a_gap_is_refused(partition: Partition) -> None:
    with pytest.raises(
        RebuildRefused, match=rf"at switchboard.events/{HOME}/2 has partitionsequence 4 where 3 is next"
    ):
        _folded([value for at, value in enumerate(_values(partition)) if at != 2])


def test_a_log_whose_chain_is_broken_is_refused(partition: Partition) -> None:
    values = _values(partition)
    values[1] = values[1].replace(b"CRM", b"crm")

    with pytest.raises(RebuildRefused, match=rf"at switchboard.events/{HOME}/2 does not follow"):
        _folded(values)


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"type": "ShopBurnt"}, "is a ShopBurnt, which this release does not know"),
        ({"data": {"system": 7}}, "cannot be read"),
        ({"type": "IntentDeleted", "data": {"system": "crm"}}, "cannot be read"),
        ({"type": "IntentReleased", "data": {"system": "crm", "code": "C", "template": "t"}}, "cannot have happened"),
        ({"type": "BusinessSystemDisabled", "data": {"system": "shop"}}, "business system 'shop' is not open"),
    ],
)
def test_an_event_that_leads_nowhere_is_named(partition: Partition, attributes: dict[str, Any], says: str) -> None:
    values = _values(partition)
    values[3] = _changed(values[3], **attributes)

    with pytest.raises(RebuildRefused, match=says):
        _folded(values)


def test_lost_secrets_are_named_those_of_drafts_too(partition: Partition) -> None:
    folded = _folded(_values(partition))
    assert _lost_secrets(folded, partition.state) == []

    partition.state.signatures.clear()
    assert sorted(_lost_secrets(folded, partition.state)) == ["ch-1/crm/key-1", "ch-1/erp/key-2"]
