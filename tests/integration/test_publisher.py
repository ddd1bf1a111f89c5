"""The publisher client keeps its word while ids collide, records are refused, and brokers and deciders come and go."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contracts import publisher as publishing
from contracts import topics
from contracts.business_system import OpenBusinessSystem
from contracts.channel import EditChannel, RegisterChannel
from contracts.invocation import InvokeIntent
from contracts.message import CommandData
from contracts.outcome import CommandRejected
from contracts.partitioner import partition_of
from contracts.publisher import Outcome, OutcomeTimeout, Publisher, PublisherBroken
from contracts.sealing import SealKey
from contracts.signature import RefreshSignature, RevealSignature
from contracts.sms import ToggleSms
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.process import free_port
from tests.faults.arena import Arena, Victim
from tests.faults.victim import Order
from tests.installation import fresh

REGISTER = RegisterChannel(channel_type="viber", name="Shop", enterprise_authenticated=True)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with Arena(tmp_path_factory.mktemp("arena")) as arena:
        yield arena


@pytest.fixture(scope="module")
def decider(arena: Arena) -> Victim:
    """It decides everything, and can be stopped and woken."""
    victim = arena.start(Order(own=arena.everything, partitions=arena.partitions))
    asyncio.run(victim.ready())
    return victim


def _publisher(arena: Arena, seal_key: SealKey | None = None) -> Publisher:
    return Publisher(arena.kafka.bootstrap_servers, source="tests", account="acme", seal_key=seal_key)


@pytest.fixture
async def publisher(arena: Arena, decider: Victim) -> AsyncIterator[Publisher]:
    del decider  # it runs
    async with _publisher(arena) as publisher:
        yield publisher


@pytest.fixture
async def channel(publisher: Publisher) -> str:
    """A registered one."""
    name = fresh("ch")
    assert (await publisher.send(REGISTER, channel=name)).accepted
    return name


def _rejection(outcome: Outcome) -> str | None:
    return outcome.body.rejection if isinstance(outcome.body, CommandRejected) else None


async def test_two_accounts_with_the_same_id(publisher: Publisher, channel: str) -> None:
    ours, theirs = await asyncio.gather(
        publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same"),
        publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same", account="other"),
    )

    assert ours.accepted
    assert _rejection(theirs) == "ChannelUnknown"


async def test_the_same_id_for_something_else_at_the_same_time(publisher: Publisher, channel: str) -> None:
    first, other, again = await asyncio.gather(
        publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same"),
        publisher.send(ToggleSms(enabled=False), channel=channel, command_id="same"),
        publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same"),
    )

    assert first.version == 2
    assert _rejection(other) == "CommandIdReused"
    assert again.body == first.body


async def test_who_stops_waiting_takes_nobody_along(decider: Victim, publisher: Publisher, channel: str) -> None:
    decider.send(signal.SIGSTOP)
    try:
        patient = asyncio.create_task(publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same"))
        cancelled = asyncio.create_task(publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same"))
        with pytest.raises(OutcomeTimeout, match=r"No outcome within 0.5 s. Command same may yet be decided"):
            await publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same", timeout=0.5)
        cancelled.cancel()
    finally:
        decider.wake()

    assert (await patient).version == 2
    assert (await asyncio.gather(cancelled, return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def test_closing_tells_who_waits(arena: Arena, decider: Victim, channel: str) -> None:
    decider.send(signal.SIGSTOP)
    try:
        async with _publisher(arena) as publisher:
            waiting = asyncio.create_task(publisher.send(ToggleSms(enabled=True), channel=channel))
            await asyncio.sleep(0.2)
    finally:
        decider.wake()

    with pytest.raises(PublisherBroken, match="closed before the outcome came; send again with the same id"):
        await waiting
    with pytest.raises(PublisherBroken, match="closed"):
        await publisher.send(ToggleSms(enabled=True), channel=channel)
    with pytest.raises(PublisherBroken, match=r"The publisher is closed; nothing was published\.$"):
        await publisher.publish(ToggleSms(enabled=True), channel=channel)


async def test_an_outcome_that_was_missed_is_asked_for_again(
    publisher: Publisher, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the reader fell so far behind that the log had moved on."""
    monkeypatch.setattr(publishing, "_RESEND_AFTER_S", 0.3)
    reader = publisher._outcomes
    match, missed = reader._match, list[object]()

    def miss_one(record: object) -> None:
        if missed:
            match(record)
        missed.append(record)

    monkeypatch.setattr(reader, "_match", miss_one)
    outcome = await publisher.send(ToggleSms(enabled=True), channel=channel)

    assert (outcome.version, outcome.repeated) == (2, True)


async def test_what_is_no_outcome_ends_nothing(arena: Arena, publisher: Publisher, channel: str) -> None:
    headers = [("causationid", b"same"), ("accountid", b"acme")]
    home = partition_of(channel, arena.partitions)
    async with AIOKafkaProducer(bootstrap_servers=arena.kafka.bootstrap_servers) as producer:
        waiting = asyncio.create_task(
            publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same", timeout=20)
        )
        for key, value in ((channel.encode(), b"{}"), (channel.encode(), None), (b"\xff", b"{}"), (None, b"x")):
            await producer.send_and_wait(topics.OUTCOMES.name, value, key=key, partition=home, headers=headers)
        await waiting
        after = await publisher.send(ToggleSms(enabled=False), channel=channel)

    assert after.version == 3


async def test_a_secret_comes_back_opened(arena: Arena, publisher: Publisher, channel: str) -> None:
    crm = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/")
    assert (await publisher.send(crm, channel=channel)).secret is None
    revealed = await publisher.send(RevealSignature(system="crm", seal_to=publisher.seal_to), channel=channel)
    key = SealKey()
    refresh = RefreshSignature(system="crm", seal_to=key.seal_to)
    for_another = await publisher.send(refresh, channel=channel, command_id="refresh")
    async with _publisher(arena, seal_key=key) as other:
        again = await other.send(refresh, channel=channel, command_id="refresh")

    assert (revealed.secret or "").startswith("whsec_")
    assert (revealed.secret or "") not in repr(revealed)
    assert for_another.accepted
    assert for_another.secret is None
    assert again.repeated
    assert (again.secret or "").startswith("whsec_")
    assert again.secret != revealed.secret


async def test_many_at_once_keep_their_order_and_can_be_sent_again(publisher: Publisher) -> None:
    channels = [fresh("bulk") for _ in range(20)]
    commands: list[tuple[str, CommandData, str]] = [(one, REGISTER, f"{one}:0") for one in channels]
    commands += [(one, EditChannel(name=f"Shop {step}"), f"{one}:{step}") for step in range(1, 20) for one in channels]
    counted: list[int] = []
    done = await publisher.send_many(commands, at_once=150, progress=counted.append)
    again = await publisher.send_many(commands)

    assert [outcome.version for outcome in done] == [step for step in range(1, 21) for _ in channels]
    assert counted == list(range(1, 401))
    assert all(outcome.repeated for outcome in again)
    assert [outcome.body for outcome in again] == [outcome.body for outcome in done]


async def test_many_are_published_without_waiting_for_answers(publisher: Publisher) -> None:
    """In order on each channel, each under an id of its own, by which its answer can be asked for."""
    channels = [fresh("ch") for _ in range(5)]
    await publisher.publish_many([(channel, REGISTER) for channel in channels])
    told: list[int] = []
    edits = [(channel, EditChannel(name=f"Shop {number}")) for number in range(20) for channel in channels]
    ids = await publisher.publish_many(edits, at_once=30, progress=told.append)

    assert told == [30, 60, 90, 100]
    assert len(set(ids)) == 100
    again = await publisher.send_many([(*edit, one) for edit, one in zip(edits, ids, strict=True)])
    assert all(outcome.accepted for outcome in again)
    assert [outcome.version for outcome in again] == [2 + number // 5 for number in range(100)]


async def test_one_too_large_ends_what_is_published_at_once(publisher: Publisher, channel: str) -> None:
    """What came before it is there, what came after it is not, and the publisher goes on."""
    oversized = EditChannel.model_construct({"name"}, name="x" * 3_000_000)
    names = [EditChannel(name="before"), oversized, EditChannel(name="after")]
    with pytest.raises(PublisherBroken, match="larger"):
        await publisher.publish_many([(channel, name) for name in names])
    outcome = await publisher.send(EditChannel(name="last"), channel=channel)
    assert outcome.version == 3


async def test_the_first_that_raises_ends_a_bulk(decider: Victim, publisher: Publisher, channel: str) -> None:
    decider.send(signal.SIGSTOP)
    try:
        with pytest.raises(OutcomeTimeout):
            await publisher.send_many([(channel, ToggleSms(enabled=True))] * 30, at_once=10, timeout=0.5)
    finally:
        decider.wake()

    assert publisher._outcomes._waiting == {}


async def test_what_cannot_be_a_command_is_refused_before_it_is_published(publisher: Publisher) -> None:
    with pytest.raises(ValueError, match="channel is 'no channel'; it must be 1 to 128 characters"):
        await publisher.send(ToggleSms(enabled=True), channel="no channel")
    with pytest.raises(ValueError, match="command_id is '~ours'"):
        await publisher.publish(ToggleSms(enabled=True), channel="ch", command_id="~ours")
    with pytest.raises(ValueError, match="needs an account"):
        await Publisher("nowhere", source="tests").send(ToggleSms(enabled=True), channel="ch")
    with pytest.raises(ValueError, match="InvokeIntent is a request, which has no outcome: publish it"):
        await publisher.send(InvokeIntent(system="crm", code="ORDER"), channel="ch")
    with pytest.raises(ValueError, match="NaN or an infinity, which JSON does not have"):
        await publisher.send_raw("ToggleSms", {"enabled": float("nan")}, channel="ch")
    outcome = await publisher.send_raw("ToggleSms", {"enabled": "NaN and Infinity"}, channel="ch")
    assert _rejection(outcome) == "InvalidCommand"


async def _largest_command(arena: Arena, size: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=arena.kafka.bootstrap_servers)
    await admin.start()
    settings = topics.COMMANDS.settings | {"max.message.bytes": size}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.COMMANDS.name, settings)])
    await admin.close()


@pytest.mark.parametrize("limit", [topics.COMMANDS.settings["max.message.bytes"], "20000"])
async def test_too_large_a_command_harms_no_other(arena: Arena, publisher: Publisher, channel: str, limit: str) -> None:
    """Whoever refuses it, this client or the broker: the partition's next commands are answered."""
    size = 3_000_000 if limit == topics.COMMANDS.settings["max.message.bytes"] else 30_000
    await _largest_command(arena, limit)
    try:
        for enabled in (True, False):
            with pytest.raises(PublisherBroken, match="larger than the broker takes; nothing was published"):
                await publisher.send_raw("ToggleSms", {"enabled": "x" * size}, channel=channel)
            assert (await publisher.send(ToggleSms(enabled=enabled), channel=channel, timeout=10)).accepted
    finally:
        await _largest_command(arena, topics.COMMANDS.settings["max.message.bytes"])


@pytest.mark.timeout(180)
async def test_the_broker_is_killed_while_an_answer_is_waited_for(
    arena: Arena, decider: Victim, publisher: Publisher, channel: str
) -> None:
    decider.send(signal.SIGSTOP)
    waiting = asyncio.create_task(publisher.send(ToggleSms(enabled=True), channel=channel, timeout=60))
    await asyncio.sleep(0.3)
    arena.strike_broker(signal.SIGKILL)
    began = time.monotonic()
    impatient = _publisher(arena)
    with pytest.raises(PublisherBroken, match=r"No broker answers at 127.0.0.1:\d+\.$"):
        await impatient.__aenter__()
    with pytest.raises(OutcomeTimeout):
        await publisher.send(ToggleSms(enabled=False), channel=channel, command_id="late", timeout=1)
    assert time.monotonic() - began < 20
    await arena.restart_broker()
    decider.wake()

    assert (await waiting).version == 2
    late = await publisher.send(ToggleSms(enabled=False), channel=channel, command_id="late", timeout=60)
    assert late.version == 3


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_closing_does_not_wait_for_a_broker_that_is_away(
    arena: Arena, how: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waits is told, and no task is left behind, of which Python would say that it was destroyed but is pending."""

    async def closed() -> tuple[float, list[str]]:
        async with _publisher(arena) as publisher:
            arena.strike_broker(how)
            with pytest.raises(OutcomeTimeout):
                await publisher.send(ToggleSms(enabled=True), channel="ch", timeout=0.5)
            waiting = asyncio.create_task(publisher.publish(ToggleSms(enabled=True), channel="ch"))
            await asyncio.sleep(0.1)
            began = time.monotonic()
        took = time.monotonic() - began
        with pytest.raises(PublisherBroken, match=r"No broker answers at 127.0.0.1:\d+\.$"):
            await waiting
        return took, [str(one) for one in asyncio.all_tasks() if one is not asyncio.current_task()]

    try:
        took, left = asyncio.run(closed())
    finally:
        if how == signal.SIGSTOP:
            arena.strike_broker(signal.SIGCONT)
        else:
            asyncio.run(arena.restart_broker())
    assert (took < 15, left) == (True, [])
    assert [one.message for one in caplog.records if one.name == "asyncio"] == []


async def test_no_broker() -> None:
    port = free_port()
    with pytest.raises(PublisherBroken, match=rf"^No broker answers at 127.0.0.1:{port}\.$"):
        await Publisher(f"127.0.0.1:{port}", source="tests", account="acme").__aenter__()


async def test_topics_that_are_not_there_or_do_not_fit(own_kafka: EmbeddedKafka) -> None:
    servers = own_kafka.bootstrap_servers
    with pytest.raises(PublisherBroken, match=r"has no topic switchboard\.commands; `switchboard topics apply` makes"):
        await Publisher(servers, source="tests", account="acme").__aenter__()
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(topics.COMMANDS.name, 2, 1), NewTopic(topics.OUTCOMES.name, 3, 1)])
    await admin.close()
    with pytest.raises(PublisherBroken, match=r"commands has 2 partitions and switchboard\.outcomes 3"):
        await Publisher(servers, source="tests", account="acme").__aenter__()


async def test_cancelled_while_it_starts(arena: Arena) -> None:
    """It leaves nothing open, which would be a warning, and warnings are errors."""
    for moment in (0.0, 0.005, 0.02, 0.05):
        publisher = _publisher(arena)
        starting = asyncio.create_task(publisher.__aenter__())
        await asyncio.sleep(moment)
        if starting.cancel():
            await asyncio.gather(starting, return_exceptions=True)
        else:
            await publisher.__aexit__(None, None, None)
