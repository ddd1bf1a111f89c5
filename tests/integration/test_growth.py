"""`switchboard topics grow` under load: nothing is lost or done twice, and each channel's order is kept."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from contracts import topics
from contracts.channel import RegisterChannel
from contracts.envelope import GENESIS
from contracts.kafka.command_envelope import command_envelope
from contracts.kafka.partition_growth import read_partitions
from contracts.kafka.publisher import Publisher
from contracts.message_routing import RouteMessage
from contracts.partitioner import partition_of
from contracts.signature import RefreshSignature
from contracts.sms import ToggleSms
from services.decider.restore import restore
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.topics import apply_topics
from tests.commands import run_here
from tests.faults.decider.log_reader import Log, read_log
from tests.installation import Installation

BEFORE, AFTER = 2, 4
CHANNELS = tuple(f"ch-{number}" for number in range(8))
MOVED = [one for one in CHANNELS if partition_of(one, AFTER) >= BEFORE]
REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
REFRESH = RefreshSignature(system="crm", api_request_url="https://crm.example/hook")
_NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
_AFTERWARDS = 5
"""So many commands are sent to each channel after the growth."""


@pytest.fixture
def installation(own_kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Installation]:
    with Installation(
        own_kafka.bootstrap_servers, _NOWHERE, tmp_path, services=("decider",), partitions=BEFORE
    ) as running:
        yield running


def _grow(installation: Installation, *options: str) -> tuple[int, str]:
    done = run_here(installation.environment, "topics", "grow", "--partitions", *options)
    return done.returncode, done.stdout + done.stderr


async def _toggle(publisher: Publisher, channel: str, grown: asyncio.Event) -> int:
    """Sends commands one after another until some time after the growth; returns how many."""
    sent = left = 0
    while left < _AFTERWARDS:
        left += grown.is_set()
        toggle = ToggleSms(enabled=sent % 2 == 0)
        outcome = await publisher.send(toggle, channel=channel, command_id=f"{channel}-{sent}")
        sent += 1
        assert outcome.accepted
        assert outcome.version == 2 + sent
    return sent


async def _stale(servers: str, channel: str, value: bytes) -> None:
    """Publishes to where the channel lived before, as a client does that has not heard of the growth."""
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        home = partition_of(channel, BEFORE)
        headers = [("switchboard-forwarded", b"1")]  # it came to this partition as its home then
        await producer.send_and_wait(topics.COMMANDS.name, value, channel.encode(), home, headers=headers)


def _require_order(log: Log) -> None:
    """Every channel's events count on and name the event before, from its older partition to its home."""
    events: dict[str, list[tuple[int, bytes, int]]] = defaultdict(list)
    for partition in range(AFTER):
        for record in log.of(topics.EVENTS, partition):
            event = json.loads(record.value or b"")
            events[event["subject"]].append((event["sequence"], record.value or b"", partition))
    assert set(events) == set(CHANNELS)
    for channel, found in events.items():
        head = GENESIS
        for number, (sequence, value, _) in enumerate(sorted(found), 1):
            assert (sequence, json.loads(value)["previoushash"]) == (number, head)
            head = sha256(value).hexdigest()
        partitions = [partition for _, _, partition in sorted(found)]
        assert partitions == sorted(partitions, key=[partition_of(channel, BEFORE), partition_of(channel, AFTER)].index)


def _firsts(log: Log) -> Counter[str]:
    """How many first outcomes each command has."""
    outcomes: list[Any] = [
        json.loads(record.value or b"") for number in range(AFTER) for record in log.of(topics.OUTCOMES, number)
    ]
    return Counter(one["causationid"] for one in outcomes if not one.get("repeated"))


@pytest.mark.timeout(180)
async def test_partitions_grow_under_load(installation: Installation) -> None:
    servers, grown = installation.bootstrap_servers, asyncio.Event()
    async with Publisher(servers, source="test", account="acme") as publisher:
        for channel in CHANNELS:
            assert (await publisher.send(REGISTER, channel=channel)).accepted
            assert (await publisher.send(REFRESH, channel=channel)).accepted
        load = [asyncio.create_task(_toggle(publisher, channel, grown)) for channel in CHANNELS]
        await asyncio.sleep(0.5)
        code, said = await asyncio.to_thread(_grow, installation, "4")
        grown.set()
        assert code == 0, said
        assert f"{len(MOVED)} channels moved" in said
        sent = dict(zip(CHANNELS, await asyncio.gather(*load), strict=True))

    # An id from before the growth, whose outcome is on the older partition; by a client that knows of the growth.
    async with Publisher(servers, source="test", account="acme") as publisher:
        again = await publisher.send(ToggleSms(enabled=True), channel=MOVED[0], command_id=f"{MOVED[0]}-0")
        assert (again.repeated, again.version) == (True, 3)
        late = command_envelope(
            "ToggleSms",
            {"enabled": True},
            source="old",
            actor=None,
            channel=MOVED[0],
            command_id="late",
            account="acme",
        )
        await _stale(servers, MOVED[0], late)
        assert (await publisher.send(ToggleSms(enabled=True), channel=MOVED[0], command_id="late")).accepted
        message = RouteMessage(recipient="+911234567890", category="authentication")
        await publisher.publish(message, channel=MOVED[0])  # to a topic that does not grow

    log = await read_log(servers, AFTER)
    _require_order(log)
    firsts = _firsts(log)
    assert [firsts[f"{channel}-{number}"] for channel in CHANNELS for number in range(sent[channel])] == [1] * sum(
        sent.values()
    )
    assert firsts["late"] == 1
    assert not any(record for number in range(AFTER) for record in log.of(topics.DEAD_LETTERS, number))
    for channel in CHANNELS:
        home = partition_of(channel, AFTER)
        found = [
            number
            for number in range(AFTER)
            if any(key.startswith(f"{channel}/".encode()) for key in (await restore(servers, {}, number)).signatures)
        ]
        assert found == [home]

    # What is there afterwards is accepted, and folds from the log.
    assert await apply_topics(servers, BEFORE, {}, check=True) == []
    assert (await asyncio.to_thread(_grow, installation, "6"))[0] == 2
    decider = installation.services["decider"]
    decider.stop()
    await asyncio.to_thread(decider.wait)
    rebuilt = await asyncio.to_thread(run_here, installation.environment, "state", "rebuild")
    assert rebuilt.returncode == 0, rebuilt.stdout
    assert rebuilt.stdout.count("0 corrected") == AFTER
    assert (await read_partitions(bootstrap_servers=servers)).count(BEFORE) == AFTER
