"""`switchboard state rebuild` finds what is wrong with the decider's state, and mends it from the log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from contracts import topics
from contracts.business_system import OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.intent import AddIntent
from contracts.kafka.publisher import OutcomeTimeout, Publisher
from contracts.outcome import CommandRejected
from contracts.partitioner import partition_of
from contracts.sms import ToggleSms
from services.decider.fencing import transactional_id
from services.decider.restore import restore
from services.domain.state_topic import channel_key, system_key
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.transactions import OutgoingRecord, TransactionalProducer
from tests.commands import run_here
from tests.installation import Installation

PARTITIONS = 2
CHANNELS = ("ch-1", "ch-2", "ch-3")
REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
INTENT = AddIntent(system="crm", code="ORDER", name="Order", default_data={"b": 1, "a": 2})
_NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def installation(own_kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Installation]:
    with Installation(
        own_kafka.bootstrap_servers, _NOWHERE, tmp_path, services=("decider",), partitions=PARTITIONS
    ) as running:
        yield running


def _rebuild(installation: Installation, *options: str) -> tuple[int, str]:
    done = run_here(installation.environment, "state", "rebuild", *options)
    return done.returncode, done.stdout + done.stderr


async def _settings(publisher: Publisher) -> None:
    for channel in CHANNELS:
        assert (await publisher.send(REGISTER, channel=channel, command_id=f"register-{channel}")).accepted
        opened = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/hook")
        assert (await publisher.send(opened, channel=channel)).accepted
        assert (await publisher.send(INTENT, channel=channel, command_id=f"intent-{channel}")).accepted


async def _damage(bootstrap_servers: str) -> None:
    """One record changed, one missing, and one that should not be."""
    renamed = channel_key(CHANNELS[0])
    missing = system_key(CHANNELS[1], "crm")
    for number in range(PARTITIONS):
        state = await restore(bootstrap_servers, {}, number)
        damage: dict[bytes, bytes | None] = {}
        if renamed in state.records:
            damage[renamed] = state.records[renamed].replace(b"Shop", b"Shed")
            damage[b"ch-never"] = state.records[renamed]
        if missing in state.records:
            damage[missing] = None
        await _write(bootstrap_servers, number, damage)


async def _write(bootstrap_servers: str, number: int, damage: dict[bytes, bytes | None]) -> None:
    producer = TransactionalProducer(bootstrap_servers, transactional_id(number), {})
    try:
        await producer.start()
        await producer.begin()
        records = [OutgoingRecord(topics.CHANNEL_STATE.name, number, key, value) for key, value in damage.items()]
        await producer.append(records, 0)
        await producer.commit()
    finally:
        await producer.discard()


async def _trim_outcomes(bootstrap_servers: str, channel: str) -> None:
    """As retention does: what came before the outcome of the channel's intent is gone."""
    source = TopicPartition(topics.OUTCOMES.name, partition_of(channel, PARTITIONS))
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, isolation_level="read_committed") as consumer:
        consumer.assign([source])
        await consumer.seek_to_beginning(source)
        async for record in consumer:
            if dict(record.headers)["causationid"] == f"intent-{channel}".encode():
                break
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({source: RecordsToDelete(record.offset)})
    finally:
        await admin.close()


@pytest.mark.timeout(180)
async def test_state_is_folded_anew_and_corrected(installation: Installation) -> None:
    servers, decider = installation.bootstrap_servers, installation.services["decider"]
    async with Publisher(servers, source="test", account="acme") as publisher:
        await _settings(publisher)
    before = [(await restore(servers, {}, number)).records for number in range(PARTITIONS)]

    code, said = await asyncio.to_thread(_rebuild, installation)
    assert code == 2
    assert "A decider is running" in said

    decider.stop()
    await asyncio.to_thread(decider.wait)
    code, said = await asyncio.to_thread(_rebuild, installation)
    assert code == 0, said
    assert said.count("0 corrected") == PARTITIONS

    await _damage(servers)
    code, said = await asyncio.to_thread(_rebuild, installation, "--dry-run")
    assert code == 1, said
    damaged, lost = (partition_of(channel, PARTITIONS) for channel in CHANNELS[:2])
    for line in (
        f"partition {damaged}: ch-1 different",
        f"partition {damaged}: ch-never unexpected",
        f"partition {lost}: ch-2/crm missing",
    ):
        assert line in said
    code, said = await asyncio.to_thread(_rebuild, installation)
    assert code == 0, said
    assert [(await restore(servers, {}, number)).records for number in range(PARTITIONS)] == before

    last = CHANNELS[-1]
    await _trim_outcomes(servers, last)
    await asyncio.to_thread(installation.restart, "decider")
    async with Publisher(servers, source="test", account="acme") as publisher:
        for channel in CHANNELS:
            outcome = await publisher.send(ToggleSms(enabled=True), channel=channel)
            assert outcome.accepted
            assert outcome.version == 5
        kept = await publisher.send(INTENT, channel=last, command_id=f"intent-{last}")
        assert (kept.accepted, kept.repeated) == (True, True)
        forgotten = await publisher.send(REGISTER, channel=last, command_id=f"register-{last}")
        assert (forgotten.accepted, forgotten.repeated) == (False, False)


@pytest.mark.timeout(180)
async def test_a_partition_that_stopped_goes_on_where_it_was(installation: Installation) -> None:
    """A record that nobody can read: 19 commands fail one by one, then the partition stops, and loses nothing."""
    servers, decider = installation.bootstrap_servers, installation.services["decider"]
    channels = {partition_of(name, PARTITIONS): name for number in range(9) for name in [f"stop-{number}"]}
    bad, other = channels[0], channels[1]
    async with Publisher(servers, source="test", account="acme") as publisher:
        for channel in (bad, other):
            assert (await publisher.send(REGISTER, channel=channel)).accepted
    decider.stop()
    await asyncio.to_thread(decider.wait)
    await _write(servers, 0, {channel_key(bad): b"{}"})
    await asyncio.to_thread(installation.restart, "decider")

    async with Publisher(servers, source="test", account="acme") as publisher:
        for number in range(19):
            failed = await publisher.send(ToggleSms(enabled=True), channel=bad, command_id=f"f{number}")
            assert isinstance(failed.body, CommandRejected)
            assert failed.body.rejection == "DecisionFailed"
        with pytest.raises(OutcomeTimeout):
            await publisher.send(ToggleSms(enabled=True), channel=bad, command_id="f19", timeout=2)
        assert (await publisher.send(ToggleSms(enabled=True), channel=other)).accepted
    assert "Partition 0 stops: 20 decisions in a row raised" in installation.output()

    decider.stop()
    await asyncio.to_thread(decider.wait)
    code, said = await asyncio.to_thread(_rebuild, installation)
    assert (code, f"partition 0: {bad} different" in said) == (0, True)
    await asyncio.to_thread(installation.restart, "decider")
    async with Publisher(servers, source="test", account="acme") as publisher:
        again = await publisher.send(ToggleSms(enabled=True), channel=bad, command_id="f0")
        last = await publisher.send(ToggleSms(enabled=True), channel=bad, command_id="f19")
    assert (again.accepted, again.repeated) == (False, True)
    assert (last.accepted, last.version) == (True, 2)
