"""A broker whose data has no passwords is refused, what it is told is kept off command lines, and transactions end."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from socket import create_connection, socket

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.infrastructure.acls import ADMIN, BROKER, PRINCIPALS
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.process import DirectoryUnusable
from services.infrastructure.kafka import security_options
from services.infrastructure.transactions import TRANSACTION_TIMEOUT_MS


def test_a_log_that_was_formatted_without_passwords(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path / "kafka"):
        pass

    with pytest.raises(DirectoryUnusable, match=r"nobody could log in; set SWITCHBOARD_DATA_DIR to a fresh directory"):
        EmbeddedKafka(tmp_path / "kafka", secured=True).start()


def test_nobody_holds_a_transaction_open_for_long(tmp_path: Path) -> None:
    async def start(timeout_ms: int) -> None:
        producer = AIOKafkaProducer(
            **security_options(broker.environment(ADMIN)),
            bootstrap_servers=broker.bootstrap_servers,
            transactional_id="of-a-publisher",
            transaction_timeout_ms=timeout_ms,
        )
        try:
            await producer.start()
        finally:
            await producer.stop()

    with EmbeddedKafka(tmp_path / "kafka", secured=True) as broker:
        asyncio.run(start(TRANSACTION_TIMEOUT_MS))
        with pytest.raises(KafkaError, match=r"[Tt]imeout"):
            asyncio.run(start(TRANSACTION_TIMEOUT_MS + 1))


class CommandLines(threading.Thread):
    """All command lines of our child processes, read again and again until `end`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.01):
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    self.seen.add(" ".join(child.cmdline()))

    def end(self) -> set[str]:
        self._ended.set()
        self.join()
        return self.seen


@pytest.fixture(scope="module")
def formatted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedKafka, set[str]]]:
    """A broker whose log was just formatted, and the command lines until it was ready."""
    lines = CommandLines()
    lines.start()
    try:
        with EmbeddedKafka(tmp_path_factory.mktemp("secured"), secured=True) as broker:
            yield broker, lines.end()
    finally:
        lines.end()


def password(broker: EmbeddedKafka, principal: str) -> str:
    return broker.environment(principal)["SWITCHBOARD_KAFKA_SASL_PASSWORD"]


def test_no_password_is_on_a_command_line(formatted: tuple[EmbeddedKafka, set[str]]) -> None:
    broker, lines = formatted
    assert [name for name in ("StorageTool", "kafka.Kafka") if not any(name in line for line in lines)] == []
    for principal in PRINCIPALS:
        assert [line for line in lines if password(broker, principal) in line] == []


SASL_HANDSHAKE, SASL_AUTHENTICATE, DESCRIBE_QUORUM = 17, 36, 55
QUORUM_OF_METADATA = b"\0" + b"\2\x13__cluster_metadata" + b"\2" + b"\0\0\0\0" + b"\0\0\0"
"""The tagged fields of the head, and the topic with its partition 0."""


def asked(connection: socket, key: int, version: int, body: bytes) -> bytes:
    """The answer after its correlation id. Raises EOFError where the connection is closed instead."""
    request = struct.pack(">hhih", key, version, 1, -1) + body
    connection.sendall(struct.pack(">i", len(request)) + request)
    with connection.makefile("rb") as file:
        size = file.read(4)
        if len(size) < 4:
            raise EOFError
        return file.read(struct.unpack(">i", size)[0])[4:]


def quorum_as(port: int, mechanism: str | None, principal: str = "", word: str = "") -> str:
    """What becomes of a question that only members of the quorum and the broker have for the controller."""
    with closing(create_connection(("127.0.0.1", port), timeout=20)) as connection:
        try:
            if mechanism is not None:
                name = mechanism.encode()
                if asked(connection, SASL_HANDSHAKE, 1, struct.pack(">h", len(name)) + name)[:2] != b"\0\0":
                    return "mechanism refused"
                login = f"\0{principal}\0{word}".encode()
                if asked(connection, SASL_AUTHENTICATE, 0, struct.pack(">i", len(login)) + login)[:2] != b"\0\0":
                    return "login refused"
            answer = asked(connection, DESCRIBE_QUORUM, 0, QUORUM_OF_METADATA)
        except (EOFError, ConnectionError):
            return "closed"
        return "answered" if answer[:3] == b"\0\0\0" else f"error {answer[:3].hex()}"


def test_nobody_but_the_broker_speaks_to_the_controller(formatted: tuple[EmbeddedKafka, set[str]]) -> None:
    """So nobody else can join the quorum or register as a broker: both are requests like the one made here."""
    broker, _ = formatted
    properties = (broker.log.parent / "server.properties").read_text()
    port = int(properties.partition("CONTROLLER://127.0.0.1:")[2].partition("\n")[0])
    assert quorum_as(port, "PLAIN", BROKER, password(broker, BROKER)) == "answered"
    assert quorum_as(port, None) == "closed"
    assert quorum_as(port, "SCRAM-SHA-512") == "mechanism refused"
    for principal in PRINCIPALS:
        word = "x" if principal == BROKER else password(broker, principal)
        assert (principal, quorum_as(port, "PLAIN", principal, word)) == (principal, "login refused")
