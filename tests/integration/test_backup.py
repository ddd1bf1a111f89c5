"""`switchboard backup` under load and `switchboard restore` to an empty broker: nothing differs, offsets included."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts import topics
from contracts.business_system import OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.kafka.publisher import Publisher
from contracts.kafka.subscriber import Subscriber
from contracts.message import rfc3339
from contracts.signature import RefreshSignature, RevealSignature
from contracts.sms import ToggleSms
from services.audit.log.backup import open_backup
from services.audit.log.errors import AuditError
from services.audit.log.kafka_log import KafkaLog
from services.audit.log.source import Log, OffsetRange
from services.audit.verification.anchor import Anchor, sign
from services.audit.verification.verify import Report, verify
from services.cli import backup
from services.cli.log_access import now_ms
from services.decider.grow_partitions import grow
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.postgres import pool_of
from services.projector.lag import lags
from services.projector.models import READ_MODELS
from services.projector.table_diff import compare
from tests.commands import process, run_here
from tests.installation import Installation, fresh_database
from tests.patience import PATIENCE_S
from tests.read_models import load, until_caught_up
from tests.servers import Servers

PARTITIONS, GROWN = 2, 4
CHANNELS = [f"ch-{number}" for number in range(4)]
UNFINISHED = "A restore to this broker has not finished, and the log is not whole"
NAMES = [topic.name for topic in topics.TOPICS]


@pytest.fixture
def installation(own_kafka: EmbeddedKafka, shared_servers: Servers, tmp_path: Path) -> Iterator[Installation]:
    with Installation(
        own_kafka.bootstrap_servers,
        fresh_database(shared_servers.dsn),
        tmp_path / "running",
        services=("decider", "projector"),
        partitions=PARTITIONS,
    ) as running:
        yield running


async def _verified(log: Log, anchor: Anchor | None = None) -> Report:
    report = await verify(log, anchor)
    assert report.findings == []
    return report


@asynccontextmanager
async def _traffic(publisher: Publisher) -> AsyncIterator[None]:
    """Changes of all channels, one after the other on each; each must be accepted."""

    async def change(channel: str) -> None:
        while not done.is_set():
            for enabled in (True, False):
                assert (await publisher.send(ToggleSms(enabled=enabled), channel=channel)).accepted

    done = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for channel in CHANNELS:
            tasks.create_task(change(channel))
        yield
        done.set()


async def _awkward_records(bootstrap_servers: str) -> None:
    """What only outsiders write: no command, a command on the wrong partition, and a log that no longer begins at 0."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer:
        for partition in range(PARTITIONS):
            await producer.send_and_wait(topics.COMMANDS.name, b"\xff\x00", CHANNELS[0].encode(), partition)
            for _ in range(3):
                await producer.send_and_wait(topics.RATES.name, b"{}", b"rate", partition, headers=[("h", b"\xff")])
            await producer.send_and_wait(topics.USAGE.name, b"first", None, partition)
            await producer.send_and_wait(topics.USAGE.name, b"x" * 1_000_000, None, partition)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    await admin.delete_records({TopicPartition(topics.USAGE.name, 0): RecordsToDelete(1)})
    await admin.close()


async def _content(bootstrap_servers: str) -> tuple[dict[TopicPartition, OffsetRange], list[object]]:
    """The offsets of every partition, and every record that is read with its offset and time."""
    async with KafkaLog(bootstrap_servers, {}) as log:
        ranges = await log.offset_ranges(*NAMES)
        found: list[object] = []
        for source, offsets in ranges.items():
            async for batch in log.read(source, offsets):
                found += [(source, one.offset, one.timestamp, one.key, one.value, tuple(one.headers)) for one in batch]
    return ranges, found


async def _delete_topics(bootstrap_servers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    await admin.delete_topics(NAMES)
    while {  # noqa: ASYNC110 -- Kafka deletes in its own time
        one["topic"] for one in await admin.describe_topics()
    } & set(NAMES):
        await asyncio.sleep(0.1)
    await admin.close()


async def _cursor(bootstrap_servers: str) -> str:
    """Of a subscriber that has seen the first change."""
    async with aclosing(Subscriber(bootstrap_servers).changes("beginning")) as changes:
        return (await anext(changes)).cursor


async def _changes(bootstrap_servers: str, cursor: str) -> list[tuple[str, int]]:
    """The versions that follow the cursor up to the end, by channel."""
    async with aclosing(Subscriber(bootstrap_servers).changes(cursor, endless=False)) as changes:
        return sorted([(one.event.subject, one.event.sequence) async for one in changes])


async def _interrupt(installation: Installation, directory: Path) -> None:
    """Kills a restore while it fills the topics: whoever comes then is told so."""
    servers = installation.bootstrap_servers
    arguments = ("-m", "tests.faults.restore.process", servers, str(directory), "filled", "20")
    killed = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    assert await killed.wait() == -signal.SIGKILL
    for words in ("topics apply", "topics grow --partitions 8", f"backup {directory}-half"):
        refused = await asyncio.to_thread(run_here, installation.environment, *words.split())
        assert (refused.returncode, UNFINISHED in refused.stderr) == (2, True), (words, refused.stderr)
    up = process(installation, "up")  # it handles signals, which a thread cannot
    _, said = await asyncio.to_thread(up.communicate, timeout=PATIENCE_S)
    assert (up.returncode, UNFINISHED in said) == (2, True), said
    for service in installation.services.values():
        before = service.log.stat().st_size
        service.start()
        async with asyncio.timeout(PATIENCE_S):
            while UNFINISHED not in service.log.read_text()[before:]:  # noqa: ASYNC110 -- it is a file
                await asyncio.sleep(0.05)
    await asyncio.to_thread(_stop, installation)


def _stop(installation: Installation) -> None:
    for child in installation.services.values():
        child.stop()
    for child in installation.services.values():
        child.wait()


@pytest.mark.timeout(300)
async def test_a_backup_under_load_is_restored_to_the_offset(
    installation: Installation, shared_servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = installation.bootstrap_servers
    monkeypatch.setenv("SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS", servers)
    register = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
    async with Publisher(servers, source="test", account="acme") as publisher:
        for channel in CHANNELS:
            assert (await publisher.send(register, channel=channel, command_id=f"register-{channel}")).accepted
        opened = OpenBusinessSystem(system="kept", name="Kept", api_request_url="https://crm.example/hook")
        assert (await publisher.send(opened, channel=CHANNELS[0])).accepted
        issued = await publisher.send(RefreshSignature(system="kept", seal_to=publisher.seal_to), channel=CHANNELS[0])
        assert await load(publisher, Random(19), ["busy-1", "busy-2"], 60) > 10  # noqa: S311 -- repeatable, not secret
        await _awkward_records(servers)
        async with KafkaLog(servers, {}) as log:
            anchors = (await _verified(log)).anchors
        anchor = sign(topics.EVENTS.name, rfc3339(now_ms()), anchors, Ed25519PrivateKey.generate())
        async with _traffic(publisher):
            await backup.write(tmp_path / "busy")
        await _verified(open_backup(tmp_path / "busy").log, anchor)

        cursor = await _cursor(servers)
        grown = await grow(servers, {}, GROWN)
        assert grown.channels > 0
        async with _traffic(publisher):
            pass
    await asyncio.to_thread(_stop, installation)
    await backup.write(tmp_path / "quiet")
    with pytest.raises(AuditError, match="not empty; give each backup a directory of its own"):
        await backup.write(tmp_path / "quiet")
    before = await _content(servers)
    with pytest.raises(AuditError, match="has records already"):
        await backup.read_back(tmp_path / "quiet")
    since = await _changes(servers, cursor)
    assert {channel for channel, _ in since} >= set(CHANNELS)
    await _delete_topics(servers)
    await _interrupt(installation, tmp_path / "quiet")
    await backup.read_back(tmp_path / "quiet")

    assert open_backup(tmp_path / "quiet").manifest.keys == ("k1",)
    await _require_restored(servers, before)
    async with KafkaLog(servers, {}) as log:
        assert (await _verified(log, anchor)).anchored == PARTITIONS
    assert await _changes(servers, cursor) == since
    await asyncio.to_thread(installation.restart, "decider")
    await asyncio.to_thread(installation.restart, "projector")
    versions = {}
    async with Publisher(servers, source="test", account="acme") as publisher:
        for channel in CHANNELS:
            again = await publisher.send(register, channel=channel, command_id=f"register-{channel}")
            assert (again.accepted, again.repeated) == (True, True)
            changed = await publisher.send(ToggleSms(enabled=True), channel=channel)
            assert changed.accepted
            versions[channel] = changed.version or 0
        reveal = RevealSignature(system="kept", seal_to=publisher.seal_to)
        assert (await publisher.send(reveal, channel=CHANNELS[0])).secret == issued.secret
    await _require_equal_read_models(installation, shared_servers, tmp_path, versions)


async def _require_restored(
    bootstrap_servers: str, before: tuple[dict[TopicPartition, OffsetRange], list[object]]
) -> None:
    """Everything as it was, but for what the second backup's fences left aborted behind its cut."""
    ranges, records = await _content(bootstrap_servers)
    assert records == before[1]
    assert {source: offsets.first for source, offsets in ranges.items()} == {
        source: offsets.first for source, offsets in before[0].items()
    }


async def _require_equal_read_models(
    installation: Installation, shared_servers: Servers, directory: Path, versions: dict[str, int]
) -> None:
    """The database of before went on; one that begins empty reads the same from the restored log."""
    rebuilt = Installation(
        installation.bootstrap_servers,
        fresh_database(shared_servers.dsn),
        directory / "rebuilt",
        services=("projector",),
        partitions=PARTITIONS,
    )
    one = await pool_of(installation.settings, size=1)
    await until_caught_up(one, versions)
    async with asyncio.timeout(60):
        while any(lag.events for lag in await lags(installation.settings, one)):
            pass
    await asyncio.to_thread(_stop, installation)  # both are of one group, and would share the partitions
    await asyncio.to_thread(rebuilt.__enter__)
    other = await pool_of(rebuilt.settings, size=1)
    try:
        async with one.acquire() as first, other.acquire() as second, asyncio.timeout(60):
            for model in READ_MODELS.values():
                version, rows, differences = f"{model.name}_v1", 0, ["not compared yet"]
                while differences:  # each read model catches up by itself
                    async with (
                        first.transaction(isolation="repeatable_read"),
                        second.transaction(isolation="repeatable_read"),
                    ):
                        rows, differences = await compare(first, version, second, version, model.keys)
                assert rows > 0
    finally:
        await one.close()
        await other.close()
        await asyncio.to_thread(rebuilt.__exit__, None, None, None)
