"""The embedded broker and database: they end with their parent, survive a crash, and say why they cannot run."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from services.infrastructure.embedded.broker_jvm import java, startup_cache, use_startup_cache
from services.infrastructure.embedded.jars import (
    Jar,
    JarMismatch,
    JarsUnavailable,
    cache_directory,
    manifest,
    verified_jars,
)
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from services.infrastructure.embedded.process import DirectoryUnusable, PortTaken, ServerFailed, free_port
from services.infrastructure.topics import apply_topics


async def _publish(bootstrap_servers: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all") as producer:
        await producer.send_and_wait("switchboard.events", value, partition=0)


async def _everything(bootstrap_servers: str) -> list[bytes | None]:
    async with AIOKafkaConsumer(
        "switchboard.events", bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        found = await consumer.getmany(timeout_ms=10_000)
    return [record.value for records in found.values() for record in records]


def test_a_killed_broker_comes_back_with_what_it_had(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path / "kafka").start()
    asyncio.run(apply_topics(broker.bootstrap_servers, 1, {}))
    asyncio.run(_publish(broker.bootstrap_servers, b"kept"))

    broker.kill()
    with broker:
        assert asyncio.run(_everything(broker.bootstrap_servers)) == [b"kept"]


def test_a_killed_database_comes_back_with_what_it_had(tmp_path: Path) -> None:
    async def run(sql: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(database.dsn)
        try:
            return await connection.fetch(sql)
        finally:
            await connection.close()

    database = EmbeddedPostgres(tmp_path / "postgres").start()
    asyncio.run(run("CREATE TABLE kept AS SELECT 1 AS one"))

    database.kill()
    with database:
        assert [tuple(row) for row in asyncio.run(run("SELECT * FROM kept"))] == [(1,)]


def test_the_services_role_is_no_superuser(tmp_path: Path) -> None:
    async def ask() -> tuple[bool, ...]:
        connection = await asyncpg.connect(database.dsn)
        try:
            [row] = await connection.fetch(
                "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles "
                "WHERE rolname = current_user"
            )
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")
            return tuple(row)
        finally:
            await connection.close()

    with EmbeddedPostgres(tmp_path / "postgres") as database:
        assert asyncio.run(ask()) == (False,) * 5


def test_a_database_of_superusers_is_refused(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres"):
        pass
    (tmp_path / "postgres" / "superuser-password").unlink()

    with pytest.raises(DirectoryUnusable, match=r"an earlier version, .* set SWITCHBOARD_DATA_DIR to a fresh"):
        EmbeddedPostgres(tmp_path / "postgres").start()


_PARENT = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start out ignoring it
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
kafka = EmbeddedKafka(Path(sys.argv[1]) / "kafka").start()
postgres = EmbeddedPostgres(Path(sys.argv[1]) / "postgres").start()
print(kafka.pid, postgres.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_both_end_with_their_parent(tmp_path: Path, end: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        servers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        parent.send_signal(end)
        parent.wait()

    _, alive = psutil.wait_procs(servers, timeout=30)

    assert len(servers) == 2
    assert alive == []


@pytest.mark.parametrize(
    ("start", "variable"),
    [
        (lambda path, port: EmbeddedKafka(path, port).start(), "SWITCHBOARD_KAFKA_PORT"),
        (lambda path, port: EmbeddedPostgres(path, port).start(), "SWITCHBOARD_POSTGRES_PORT"),
    ],
)
def test_a_port_that_is_taken(tmp_path: Path, start: Callable[[Path, int], object], variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {port} .* set {variable} to a free port"):
            start(tmp_path, port)


def test_a_directory_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.infrastructure.embedded.process.PATIENCE_S", 0.5)
    with (
        EmbeddedKafka(tmp_path / "kafka"),
        pytest.raises(DirectoryUnusable, match=r"is in use by another kafka; .*SWITCHBOARD_DATA_DIR"),
    ):
        EmbeddedKafka(tmp_path / "kafka").start()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DirectoryUnusable, match=r"cannot be written to .*SWITCHBOARD_DATA_DIR"):
        EmbeddedKafka(tmp_path / "file" / "kafka").start()


_ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from services.infrastructure.embedded.process import EmbeddedServerError
for server in (EmbeddedKafka, EmbeddedPostgres):
    try:
        server(Path(sys.argv[1]) / server.__name__).start()
    except EmbeddedServerError as error:
        print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize(
    ("options", "reason"), [("size=32k", "no space left on device"), ("ro", "read-only file system")]
)
def test_a_disk_that_is_full_or_read_only(tmp_path: Path, options: str, reason: str) -> None:
    """On a real file system of its own, in a namespace where mounting needs no rights."""
    namespace = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
    mount = f"mount -t tmpfs -o {options} tmpfs {tmp_path}"
    if subprocess.run((*namespace, mount), capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine forbids mounting in a namespace")

    done = subprocess.run(
        (*namespace, f'{mount} && exec "$@"', "sh", sys.executable, "-c", _ON_A_SMALL_DISK, str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )

    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    for line in lines:
        assert line.startswith("DirectoryUnusable: ")
        assert f"cannot be written to ({reason}); make room or set SWITCHBOARD_DATA_DIR" in line


def test_a_damaged_log_directory(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path / "kafka"):
        pass
    (tmp_path / "kafka" / "logs" / "meta.properties").write_text("version=1\ncluster.id=another\nnode.id=7\n")

    with pytest.raises(ServerFailed, match=r"log directory .* is damaged .*kafka\.log says what it found"):
        EmbeddedKafka(tmp_path / "kafka").start()


def test_a_damaged_database(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres"):
        pass
    (tmp_path / "postgres" / "data" / "global" / "pg_control").write_bytes(b"garbage")

    with pytest.raises(ServerFailed, match=r"is damaged .*postgres\.log says what it found"):
        EmbeddedPostgres(tmp_path / "postgres").start()


def test_a_jar_that_does_not_match(tmp_path: Path) -> None:
    verified_jars(manifest(), cache_directory())
    jar = min(manifest(), key=lambda one: len(one.artifact))
    group, name, version = jar.artifact.split(":")
    place = Path(*group.split("."), name, version, f"{name}-{version}.jar")
    (tmp_path / place).parent.mkdir(parents=True)
    shutil.copy(cache_directory() / place, tmp_path / place)
    assert verified_jars([jar], tmp_path) == [tmp_path / place]

    with (tmp_path / place).open("ab") as file:
        file.write(b"!")

    with pytest.raises(JarMismatch, match=rf"{name}-{version}\.jar is not the jar .* delete"):
        verified_jars([jar], tmp_path)


def test_no_way_to_a_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(scheme, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(JarsUnavailable, match=r"no Maven registry answers.*SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS"):
        verified_jars([Jar("org.slf4j:slf4j-api:1.7.36", "0" * 64)], tmp_path)


def _new_uuid(*options: str) -> subprocess.CompletedProcess[str]:
    command = [*java(*options), "kafka.tools.StorageTool", "random-uuid"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_startup_cache_of_the_setup_fits() -> None:
    done = _new_uuid(*use_startup_cache(), "-XX:AOTMode=on")  # which would end a JVM that cannot use it
    assert use_startup_cache(), "make setup makes it"
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_damaged_startup_cache_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jars = cache_directory()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache_directory().parent.mkdir()
    cache_directory().symlink_to(jars)
    assert use_startup_cache() == ()
    startup_cache().write_bytes(b"no cache")
    done = _new_uuid(*use_startup_cache())
    assert (done.returncode, len(done.stdout.split()[-1])) == (0, 22), done.stdout + done.stderr
