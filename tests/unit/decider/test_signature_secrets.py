"""Secrets are encrypted, deleted, and sealed to the requester."""

from __future__ import annotations

import base64

import pytest

from contracts.sealing import SealKey
from contracts.signature import RefreshSignature, RevealSignature
from services.domain.webhook_signature import fingerprint
from tests.unit.decider.partition import (
    Partition,
    envelope,
    rejection_of,
)


def test_a_secret_is_sealed_to_who_asks_and_its_fingerprint_matches(partition: Partition) -> None:
    key = SealKey()
    refreshed, revealed = partition.run(
        envelope(RefreshSignature(system="crm", seal_to=key.seal_to), "c3"),
        envelope(RevealSignature(system="crm", seal_to=key.seal_to), "c4"),
    )

    shown = key.open(refreshed["data"]["sealed"])
    assert shown.startswith("whsec_")
    assert shown == key.open(revealed["data"]["sealed"])
    assert fingerprint(base64.b64decode(shown[6:])) == partition.events()[3]["data"]["fingerprint"]


def test_the_secret_is_nowhere_in_the_log(partition: Partition) -> None:
    key = SealKey()
    (refreshed,) = partition.run(envelope(RefreshSignature(system="crm", seal_to=key.seal_to), "c3"))
    shown = key.open(refreshed["data"]["sealed"]).removeprefix("whsec_")

    everything = b"".join(record.value or b"" for records in partition.log.values() for record in records)
    assert shown.encode() not in everything
    assert base64.b64decode(shown).hex().encode() not in everything


def test_a_replaced_secret_is_deleted(partition: Partition) -> None:
    partition.run(envelope(RefreshSignature(system="crm", grace_seconds=0), "c3"))

    assert list(partition.state.signatures) == [b"ch-1/crm/key-2"]
    assert list(partition.restored().signatures) == [b"ch-1/crm/key-2"]


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("command", [RefreshSignature, RevealSignature])
def test_a_key_that_nothing_can_be_sealed_to(
    partition: Partition, command: type[RefreshSignature | RevealSignature], *, dry_run: bool
) -> None:
    low_order = base64.b64encode(bytes(32)).decode()
    (outcome,) = partition.run(envelope(command(system="crm", seal_to=low_order), "c3", dryrun=dry_run))

    assert rejection_of(outcome) == "SealKeyRefused"
    assert len(partition.events()) == 3
    assert list(partition.state.signatures) == [b"ch-1/crm/key-1"]


def test_a_dry_run_seals_nothing(partition: Partition) -> None:
    reveal = RevealSignature(system="crm", seal_to=SealKey().seal_to)
    (outcome,) = partition.run(envelope(reveal, "c3", dryrun=True))

    assert outcome["data"] == {
        "version": 3,
        "would_append": [{"type": "SignatureRevealed", "data": {"system": "crm", "key_id": "key-1"}}],
    }
