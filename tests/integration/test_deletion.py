"""A secret that is deleted, whose time is over, or whose key is replaced, leaves the disk of an idle partition."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contracts import topics
from contracts.business_system import DeleteBusinessSystem, OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.kafka.publisher import Publisher
from contracts.signature import RefreshSignature
from services.domain.webhook_signature import fingerprint
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.topics import apply_topics
from services.infrastructure.vault import KeyRing, SignatureAddress, VaultError
from tests.installation import Installation, run_apart

WITHIN_S = 60
_CANDIDATE = re.compile(rb'\{"version":\d+,"kek":"[^"]*","nonce":"[^"]*","ciphertext":"[^"]*"\}')
_QUICK = {
    "segment.ms": "1000",
    "max.compaction.lag.ms": "1000",
    "min.compaction.lag.ms": "0",
    "delete.retention.ms": "1000",
    "min.cleanable.dirty.ratio": "0.01",
    "file.delete.delay.ms": "100",
}
_NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


async def _hurry(bootstrap_servers: str) -> None:
    """The compacted topics, with everything that takes an hour in production taking a second."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        for topic in (topics.CHANNEL_STATE, topics.SIGNATURES):
            settings = topic.settings | _QUICK
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, settings)])
    finally:
        await admin.close()


@pytest.fixture
def idle(own_kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Installation]:
    """A decider on a broker where nobody else does anything."""
    installation = Installation(own_kafka.bootstrap_servers, _NOWHERE, tmp_path, services=("decider",), partitions=2)
    run_apart(apply_topics(own_kafka.bootstrap_servers, 2, {}))
    run_apart(_hurry(own_kafka.bootstrap_servers))
    decider = installation.services["decider"]
    decider.start()
    try:
        decider.wait_until_ready()
        yield installation
    finally:
        decider.stop()
        decider.wait()


async def _drawn(bootstrap_servers: str) -> dict[str, SignatureAddress]:
    """Fingerprint -> address of every signature that the log tells of."""
    found = {}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        sources = [TopicPartition(topics.EVENTS.name, partition) for partition in range(2)]
        consumer.assign(sources)
        await consumer.seek_to_beginning(*sources)
        for source, end in (await consumer.end_offsets(sources)).items():
            while await consumer.position(source) < end:
                for record in (await consumer.getmany(source, timeout_ms=1_000)).get(source, ()):
                    event = json.loads(record.value)
                    if event["type"] == "SignatureRefreshed":
                        data = event["data"]
                        found[data["fingerprint"]] = SignatureAddress(event["subject"], data["system"], data["key_id"])
    finally:
        await consumer.stop()
    return found


def _on_disk(directory: Path, keyring: KeyRing, drawn: dict[str, SignatureAddress]) -> set[str]:
    """The fingerprints of all secrets that whoever has the disk and the key ring can recover.

    Every ciphertext in any file of the broker is tried at every address.
    """
    candidates: set[bytes] = set()
    for path in directory.rglob("*"):
        try:
            if path.is_file():
                candidates |= set(_CANDIDATE.findall(path.read_bytes()))
        except FileNotFoundError:  # the cleaner was quicker
            continue
    found = set()
    for candidate in candidates:
        for address in drawn.values():
            try:
                found.add(fingerprint(keyring.decrypt(candidate, address)))
            except VaultError:
                continue
    return found


def _until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True


@pytest.mark.timeout(180)
async def test_deleted_and_expired_secrets_leave_the_disk(idle: Installation, own_kafka: EmbeddedKafka) -> None:
    servers = idle.bootstrap_servers
    directory = own_kafka.log.parent / "logs"
    keyring = KeyRing.parse(idle.keyring)
    opened = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/hook")
    async with Publisher(servers, source="test", account="acme") as publisher:
        for channel in ("deleted", "expired"):
            form = RegisterChannel(channel_type="whatsapp", name=channel, enterprise_authenticated=True)
            assert (await publisher.send(form, channel=channel)).accepted
            assert (await publisher.send(opened, channel=channel)).accepted
        drawn = await _drawn(servers)
        (deleted,) = (one for one, address in drawn.items() if address.channel == "deleted")
        (expired,) = (one for one, address in drawn.items() if address.channel == "expired")
        assert _until(lambda: {deleted, expired} <= _on_disk(directory, keyring, drawn)), "the search finds nothing"

        assert (await publisher.send(DeleteBusinessSystem(system="crm"), channel="deleted")).accepted
        refreshed = await publisher.send(RefreshSignature(system="crm", grace_seconds=1), channel="expired")
        assert refreshed.accepted
    drawn = await _drawn(servers)
    (current,) = drawn.keys() - {deleted, expired}
    assert _until(lambda: not {deleted, expired} & _on_disk(directory, keyring, drawn)), (
        "deleted secrets can be recovered from the broker's disk, the key ring in hand"
    )
    assert current in _on_disk(directory, keyring, drawn), "the current secret is gone with them"

    # A newer key takes over, and what the older one encrypted leaves the disk like what was deleted.
    newer = KeyRing.make().replace("k1:", "k2:")
    idle.services["decider"].environment["SWITCHBOARD_KEYRING"] = f"{newer},{idle.keyring}"
    idle.services["decider"].stop()
    idle.restart("decider")
    assert _until(lambda: not _on_disk(directory, keyring, drawn)), "the older key still opens something"
    assert _on_disk(directory, KeyRing.parse(newer), drawn) == {current}
