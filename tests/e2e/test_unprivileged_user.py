"""Another user of the machine gets neither data nor a connection from a running `up`; its own needs no settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.infrastructure.acls import PRINCIPALS
from services.infrastructure.embedded.process import free_port
from tests.e2e.test_up import Up, _ended

_HOME = Path(__file__).parents[2]

_STRANGER = """
import asyncio, json, os, sys
from pathlib import Path
import concurrent.futures.thread, encodings.idna, stringprep
import aiokafka, asyncpg  # while the files of the interpreter can be read

data, broker, database, words, files, login = json.load(sys.stdin)  # not arguments: those can be seen
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
found = {"read": [], "kafka": [], "postgres": [], "seen": []}
for path in map(Path, files):
    try:
        path.open("rb").close()
        found["read"].append(str(path))
    except OSError:
        pass
try:
    found["read"] += os.listdir(data)
except OSError:
    pass
for process in Path("/proc").glob("[0-9]*/cmdline"):
    try:
        line = process.read_text(errors="replace")
    except OSError:
        continue
    if process.parent.name != str(os.getpid()):
        found["seen"] += [word for word in words if word in line]

async def kafka(address, **security):
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=address, request_timeout_ms=3000, **security)
    try:
        async with asyncio.timeout(10):
            await producer.start()
            await producer.send_and_wait("switchboard.commands", b"{}")
        found["kafka"].append(address)
    except Exception:  # of any kind: aiokafka has many for a login that is refused
        pass
    finally:
        await producer.stop()

async def main():
    scram = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512"}
    plain = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"}
    await kafka(broker.split(",")[0], **scram, sasl_plain_username="demo", sasl_plain_password=login)
    for address in broker.split(","):
        await kafka(address)
        for kind in (scram, plain):
            await kafka(address, **kind, sasl_plain_username="admin", sasl_plain_password="admin")
            await kafka(address, **kind, sasl_plain_username="broker", sasl_plain_password="")
    for user in ("switchboard", "postgres", "nobody"):
        try:
            await asyncpg.connect(f"postgresql://{user}@{database}/switchboard", password="", timeout=5)
            found["postgres"].append(user)
        except (asyncpg.PostgresError, OSError):
            pass

asyncio.run(main())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, Path, dict[str, str]]]:
    """A running `up` on a data directory that, as an earlier version left it, everybody may read."""
    data = tmp_path_factory.mktemp("up") / "d"
    for above in (data.parent, data.parent.parent, data.parent.parent.parent):
        above.chmod(0o755)  # the test's own directories hide nothing
    (data / "logs").mkdir(parents=True)
    (data / "logs" / "gateway.log").write_text("an earlier run\n")
    (data / "logs" / "gateway.log").chmod(0o644)
    data.chmod(0o755)
    ports = {f"SWITCHBOARD_{name}_PORT": str(free_port()) for name in ("HTTP", "KAFKA", "POSTGRES")}
    before = os.umask(0o022)
    up = Up(data, ports)
    os.umask(before)
    with _ended(up):
        yield up, data, ports


@pytest.mark.timeout(240)
def test_another_user_gets_neither_data_nor_a_connection(running: tuple[Up, Path, dict[str, str]]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    _, data, ports = running
    files = [str(path) for path in data.rglob("*") if path.is_file()]
    passwords = json.loads((data / "kafka" / "passwords.json").read_text())
    words = list(passwords.values())
    words.append((data / "postgres" / "password").read_text())
    controller = next(
        line.rpartition(":")[2]
        for line in (data / "kafka" / "server.properties").read_text().splitlines()
        if line.startswith("controller.quorum.voters=")
    )
    broker = f"127.0.0.1:{ports['SWITCHBOARD_KAFKA_PORT']},127.0.0.1:{controller}"
    database = f"127.0.0.1:{ports['SWITCHBOARD_POSTGRES_PORT']}"

    done = subprocess.run(
        [sys.executable, "-c", _STRANGER],
        input=json.dumps([str(data), broker, database, words, files, passwords["demo"]]),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    # The one connection is with a password that it was given, to show that it would have got others.
    assert json.loads(done.stdout) == {"read": [], "kafka": [broker.split(",")[0]], "postgres": [], "seen": []}
    assert len(words) == len(PRINCIPALS) + 1
    assert len(files) > 100
    open_to_others = [str(path) for path in (data, *data.rglob("*")) if path.lstat().st_mode & 0o077]
    assert open_to_others == []


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "words",
    [
        'send EditChannel --channel demo-whatsapp --account acme --data {"name":"Büro-仓库-🧾"}',
        "settings export --channel demo-whatsapp",
        "deliveries list --account acme",
        "audit verify",
        "topics apply",
    ],
)
def test_a_command_finds_the_running_up(running: tuple[Up, Path, dict[str, str]], words: str) -> None:
    """Beside it, as after `make run`, without a single variable; to a pipe in latin-1, which lacks letters of names."""
    _, data, _ = running
    if not (data.parent / ".data").exists():
        (data.parent / ".data").symlink_to(data)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")}

    done = subprocess.run(
        [sys.executable, "-m", "services.cli", *words.split()],
        cwd=data.parent,
        env=environment | {"PYTHONPATH": str(_HOME), "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        encoding="latin-1",
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    if "export" in words:
        assert "name: Büro-??-?\n" in done.stdout


def test_the_customers_login_publishes_commands_and_nothing_else(running: tuple[Up, Path, dict[str, str]]) -> None:
    """With a client that is not ours, as `kcat.conf` has it."""
    from confluent_kafka import KafkaException, Producer

    _, data, _ = running
    conf: dict[str, Any] = dict(line.split("=", 1) for line in (data / "kcat.conf").read_text().splitlines())
    refused: list[str] = []
    for topic in ("switchboard.commands", "switchboard.events", "switchboard.signatures"):
        producer = Producer(conf)

        def note(error: Any, _: Any, topic: str = topic) -> None:
            if error is not None:
                refused.append(topic)

        try:
            producer.produce(topic, b"{}", on_delivery=note)
            producer.flush(20)
        except KafkaException:
            refused.append(topic)

    assert refused == ["switchboard.events", "switchboard.signatures"]
