"""Maintenance without commands: expired secrets are deleted, old keys replaced, and segments rolled."""

from __future__ import annotations

import pytest

from contracts import topics
from contracts.business_system import DisableBusinessSystem, EnableBusinessSystem, OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.signature import RefreshSignature
from services.decider.maintenance import EXPIRY_MARGIN_MS, ROLL_KEY, SEGMENT_MS, Maintenance
from services.decider.partition_state import PartitionState
from services.infrastructure.transactions import OutgoingRecord
from services.infrastructure.vault import KeyRing, SignatureAddress, VaultError
from tests.unit.decider.partition import HOME, NOW, Partition, envelope

REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
OPEN = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/hook")
FIRST, SECOND = SignatureAddress("ch-1", "crm", "key-1"), SignatureAddress("ch-1", "crm", "key-2")
HOUR = SEGMENT_MS[topics.SIGNATURES.name]


def _keyring(*ids: str) -> KeyRing:
    return KeyRing({one: one.encode() * 16 for one in ids})


@pytest.fixture
def partition() -> Partition:
    """One with a signature in its grace period of a minute, all under the key k1."""
    partition = Partition(keyring=_keyring("k1"))
    partition.run(envelope(REGISTER, "c1"), envelope(OPEN, "c2"))
    partition.run(envelope(RefreshSignature(system="crm", grace_seconds=60), "c3"))
    return partition


def _maintenance(state: PartitionState, keyring: KeyRing) -> Maintenance:
    return Maintenance(state, HOME, SEGMENT_MS, keyring)


def test_an_expired_secret_goes_once(partition: Partition) -> None:
    maintenance = _maintenance(partition.state, partition.keyring)
    over = NOW + 60_000 + EXPIRY_MARGIN_MS
    assert maintenance.due(over - 1) == []

    tombstones = maintenance.due(over)
    maintenance.done(tombstones, over)

    assert tombstones == [OutgoingRecord(topics.SIGNATURES.name, HOME, FIRST.record_key(), None)]
    assert list(partition.state.signatures) == [SECOND.record_key()]
    assert maintenance.due(over) == []


def test_what_is_scheduled_does_not_grow_with_what_changes_meanwhile(partition: Partition) -> None:
    maintenance = _maintenance(partition.state, partition.keyring)
    for number in range(20):
        kind = EnableBusinessSystem if number % 2 else DisableBusinessSystem
        before = len(partition.read(topics.CHANNEL_STATE.name))
        partition.run(envelope(kind(system="crm"), f"d{number}"))
        changed = partition.read(topics.CHANNEL_STATE.name)[before:]
        maintenance.committed(
            [OutgoingRecord(topics.CHANNEL_STATE.name, HOME, record.key, record.value) for record in changed], NOW
        )

    assert len(maintenance._expiring) == len(maintenance._scheduled) == 1


def test_every_secret_comes_under_the_newest_key(partition: Partition) -> None:
    maintenance = _maintenance(partition.state, _keyring("k2", "k1"))
    anew = maintenance.due(NOW)
    maintenance.done(anew, NOW)

    assert {one.key for one in anew} == {FIRST.record_key(), SECOND.record_key()}
    for address in (FIRST, SECOND):
        value = partition.state.signatures[address.record_key()]
        assert len(_keyring("k2").decrypt(value, address)) == 32
        with pytest.raises(VaultError):
            partition.keyring.decrypt(value, address)
    assert _maintenance(partition.state, _keyring("k2")).due(NOW) == []


def test_what_the_older_key_encrypted_is_rolled_off_the_disk(partition: Partition) -> None:
    maintenance = _maintenance(partition.state, _keyring("k2", "k1"))
    maintenance.done(maintenance.due(NOW), NOW)
    rolls = [one for one in maintenance.due(NOW + HOUR + 1) if one.key == ROLL_KEY]

    assert [one.topic for one in rolls] == [topics.SIGNATURES.name]


def test_a_secret_whose_key_is_lost_is_left_as_it_is(partition: Partition, caplog: pytest.LogCaptureFixture) -> None:
    before = dict(partition.state.signatures)

    assert _maintenance(partition.state, _keyring("k2")).due(NOW) == []
    assert partition.state.signatures == before
    assert "is under key 'k1'" in caplog.text
