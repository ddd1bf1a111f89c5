"""What the tests of read models have in common: random commands, and the read model held against a fold of the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from contracts.approvals import ApprovedSection, SaveApprovals
from contracts.business_system import (
    DeleteBusinessSystem,
    DisableBusinessSystem,
    EditBusinessSystem,
    EnableBusinessSystem,
    OpenBusinessSystem,
)
from contracts.channel import EditChannel, RegisterChannel, RetireChannel
from contracts.intent import AddIntent, DeleteIntent, EditIntent, ReferToIntent, ReleaseIntent
from contracts.kafka.publisher import Publisher
from contracts.message import CommandData, rfc3339
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.proposed_change import ApproveChange, DeclineChange, ProposeChange
from contracts.settings import ChannelSettings
from contracts.signature import RefreshSignature
from contracts.sms import ToggleSms
from projections import settings as settings_projection
from projections.settings import queries as settings_queries
from services.audit.log.recorded_event import fold, parse_event
from services.audit.timeline.channel_settings import channel_settings
from services.domain.state import ChannelState
from services.infrastructure.checkpoints import next_offsets
from services.infrastructure.postgres import Pool
from tests.installation import Api

URL = "https://crm.example/hook"
_SYSTEMS = ("crm", "erp")
_CODES = ("ORDER", "REFUND", "STOCK")
_APPROVED: tuple[ApprovedSection, ...] = ("otp-scheduling", "signature")
_TEMPLATES = ("tpl-a", "tpl-b")


def registrations(channels: list[str]) -> Iterator[tuple[str, CommandData]]:
    for channel in channels:
        yield channel, RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)


def random_commands(
    random: Random, channels: list[str], count: int, *, instants: bool = False
) -> Iterator[tuple[str, CommandData]]:
    """(channel, command) pairs of every kind; some will be rejected. Few channels are ever retired.

    ``instants``: some changes are proposed for an instant, so that their events come after the last command.
    """
    proposed: dict[str, list[str]] = {}
    for number in range(count):
        channel, system, code = random.choice(channels), random.choice(_SYSTEMS), random.choice(_CODES)
        change = random.choice(proposed.get(channel, ["unknown"])[-4:])
        kinds: list[tuple[int, CommandData]] = [
            (4, OpenBusinessSystem(system=system, name=f"{system} {number}", api_request_url=URL)),
            (3, EditBusinessSystem(system=system, remarks=random.choice((f"remark {number}", None)))),
            (2, DeleteBusinessSystem(system=system, force=True)),
            (1, DisableBusinessSystem(system=system, reason="it answered 410")),
            (1, EnableBusinessSystem(system=system)),
            (2, RefreshSignature(system=system, grace_seconds=random.choice((0, 60)), force=True)),
            (1, RefreshSignature(system=system, api_request_url=URL)),
            (5, AddIntent(system=system, code=code, name=f"Intent {number}", default_data={"n": number})),
            (3, EditIntent(system=system, code=code, name=f"Intent {number}", json_schema=None)),
            (1, EditIntent(system=system, code=code, default_data=random.choice(({"n": [number]}, None)))),
            (2, DeleteIntent(system=system, code=code, force=True)),
            (2, ReferToIntent(system=system, code=code, template=random.choice(_TEMPLATES))),
            (1, ReleaseIntent(system=system, code=code, template=random.choice(_TEMPLATES))),
            (4, ToggleSms(enabled=random.random() < 0.5)),
            (3, SaveOtpScheduling(enabled=True, countries=[random.choice(("ID", "IN", "BR"))], use_own_numbers=False)),
            (3, EditChannel(name=f"Shop {number}", provider=random.choice((None, "partner-1")))),
            (1, SaveApprovals(required_for=random.sample(_APPROVED, random.randrange(2)))),
            (4, _proposal(random, f"c-{number}", system, instants=instants)),
            (3, ApproveChange(change=change)),
            (1, DeclineChange(change=change, comment="not now")),
        ]
        weights = [weight for weight, _ in kinds]
        command = random.choices([kind for _, kind in kinds], weights)[0]
        if isinstance(command, ProposeChange):
            proposed.setdefault(channel, []).append(command.change)
        yield channel, RetireChannel() if random.random() < 0.002 else command


def _proposal(random: Random, change: str, system: str, *, instants: bool) -> ProposeChange:
    form = {"enabled": True, "countries": [random.choice(("ID", "IN"))], "use_own_numbers": False}
    kind, data = random.choice(
        (
            ("SaveOtpScheduling", form),
            ("EditBusinessSystem", {"system": system, "remarks": change}),
            ("RefreshSignature", {"system": system, "force": True}),
            ("SaveApprovals", {"required_for": []}),
        )
    )
    at = rfc3339(time.time_ns() // 1_000_000 + 1_000) if instants and random.random() < 0.5 else None
    return ProposeChange.model_validate({"change": change, "command": {"type": kind, "data": data}, "at": at})


async def load(
    publisher: Publisher,
    random: Random,
    channels: list[str],
    count: int,
    *,
    at_once: int = 50,
    timeout: float = 30.0,
    instants: bool = False,
) -> int:
    """Registers the channels, sends random commands, and returns how many were accepted; seconds for each answer.

    Two people send them, so that one approves what the other proposes.
    """
    done = [await publisher.send_many(registrations(channels), at_once=at_once, timeout=timeout)]
    commands = random_commands(random, channels, count, instants=instants)
    done += await asyncio.gather(
        *(
            publisher.send_many(commands, at_once=(at_once + 1) // 2, timeout=timeout, actor=actor)
            for actor in ("anna", "bert")
        )
    )
    return sum(outcome.accepted for outcomes in done for outcome in outcomes)


@dataclass(frozen=True, slots=True)
class Cut:
    """The read model at one snapshot of the database, and how far into each partition it has read."""

    settings: dict[str, ChannelSettings]
    read_to: dict[int, int]
    now: int


async def cut_of(pool: Pool) -> Cut:
    now = time.time_ns() // 1_000_000
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        read_to = await next_offsets(connection, settings_projection.NAME)
        found = {}
        for one in await settings_queries.list_channels(connection, None, "", 1_000_000):
            whole = await settings_queries.channel_settings(connection, None, one.channel, rfc3339(now))
            assert whole is not None
            found[one.channel] = whole[0]
    return Cut(found, read_to, now)


async def folded(bootstrap_servers: str, read_to: Mapping[int, int]) -> dict[str, ChannelState]:
    """Every channel's state from the log alone, by the domain's own fold, up to those offsets."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, isolation_level="read_committed")
    await consumer.start()
    states: dict[str, ChannelState] = {}
    try:
        for number, end in sorted(read_to.items()):  # an added partition after the one that its channels come from
            partition = TopicPartition(topics.EVENTS.name, number)
            consumer.assign([partition])
            consumer.seek(partition, 0)
            while await consumer.position(partition) < end:
                for record in (await consumer.getmany(partition, timeout_ms=200)).get(partition, ()):
                    if record.offset < end:
                        event = parse_event(record)
                        channel = event.envelope.subject
                        states[channel] = fold(states.get(channel, ChannelState()), event)
    finally:
        await asyncio.sleep(0)  # aiokafka cannot stop a consumer whose tasks never ran
        await consumer.stop()
    return states


async def assert_equals_fold(pool: Pool, bootstrap_servers: str) -> Cut:
    """Invariant 6 at this moment: the read model is the fold of exactly the events up to its checkpoints."""
    cut = await cut_of(pool)
    states = await folded(bootstrap_servers, cut.read_to)
    expected = {channel: channel_settings(channel, state, cut.now) for channel, state in states.items()}
    assert cut.settings.keys() == expected.keys()
    for channel, settings in cut.settings.items():
        assert settings == expected[channel], f"{channel} differs from the log"
    return cut


async def end_positions(bootstrap_servers: str, partitions: int) -> dict[int, int]:
    """The committed end of each partition of the events."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, isolation_level="read_committed")
    await consumer.start()
    try:
        everything = [TopicPartition(topics.EVENTS.name, number) for number in range(partitions)]
        return {one.partition: end for one, end in (await consumer.end_offsets(everything)).items()}
    finally:
        await consumer.stop()


async def until_caught_up(pool: Pool, versions: Mapping[str, int], *, timeout: float = 30.0) -> None:
    """Waits until the read model shows these versions: channel -> version."""
    async with asyncio.timeout(timeout):
        while True:
            rows = await pool.fetch("SELECT channel, version FROM settings.channels")
            stands = {row["channel"]: row["version"] for row in rows}
            if all(stands.get(channel, 0) >= version for channel, version in versions.items()):
                return
            await asyncio.sleep(0.05)


async def history_of(api: Api, channel: str, version: int) -> list[dict[str, Any]]:
    """The entries of a channel, newest first, once the history has that version."""
    answer = await api("GET", f"channels/{channel}/history?min_version={version}&limit=1000")
    assert answer.status == 200, answer.body
    entries: list[dict[str, Any]] = answer.body["entries"]
    return entries
