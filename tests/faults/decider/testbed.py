"""The testbed of a round: a broker of its own, and deciders that can be stopped, resumed and killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.channel import EditChannel
from contracts.kafka.publisher import OutcomeTimeout, Publisher, PublisherError
from contracts.partitioner import partition_of
from services.decider.fencing import WRITTEN_TOPICS
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.topics import apply_topics
from services.infrastructure.vault import KeyRing
from tests.faults.decider.checker import ReportedOutcome, violations
from tests.faults.decider.log_reader import Log, Writer, read_log, writers_of
from tests.faults.decider.process import READY, ProcessOptions

_READY_S = 60.0


class DeciderProcess:
    """A decider process with injected faults."""

    def __init__(self, options: ProcessOptions, environment: dict[str, str], output: Path) -> None:
        self._ready = threading.Event()
        with output.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.decider.process", options.model_dump_json()],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            if line.strip() == READY:
                self._ready.set()

    async def ready(self) -> None:
        """Waits until the decider serves its partitions, has ended, or is stopped."""
        async with asyncio.timeout(_READY_S):
            while not self._ready.is_set() and not self.is_down():
                await asyncio.sleep(0.02)

    def is_down(self) -> bool:
        """Whether the process has ended or is stopped by a signal."""
        return self.process.poll() is not None or psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED

    async def down_within(self, seconds: float) -> bool:
        for _ in range(round(seconds / 0.02)):
            if self.is_down():
                return True
            await asyncio.sleep(0.02)
        return False

    def send(self, name: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(name)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Testbed:
    """A context manager; ``partitions`` is the number of partitions of every topic."""

    commands_per_channel = 60
    __test__ = False  # a name that begins with Test is no test class

    def __init__(self, directory: Path, partitions: int = 2) -> None:
        self.partitions = partitions
        # A restarted broker then scans before it has loaded its partitions, and takes them for deleted ones.
        self.kafka = EmbeddedKafka(directory / "kafka", abort_scan_ms=10)
        self._output = directory / "deciders.log"
        self._files = directory / "kafka" / "logs"
        self.more_settings: dict[str, str] = {}
        self.keyring = KeyRing.make()
        self._deciders: list[DeciderProcess] = []

    @property
    def bootstrap_servers(self) -> str:
        return self.kafka.bootstrap_servers

    @property
    def broker_ports(self) -> tuple[int, ...]:
        return (self.kafka.port,)

    @property
    def all_partitions(self) -> tuple[int, ...]:
        return tuple(range(self.partitions))

    def __enter__(self) -> Testbed:
        self.kafka.start()
        asyncio.run(apply_topics(self.kafka.bootstrap_servers, self.partitions, {}))
        return self

    def __exit__(self, *_: object) -> None:
        self.end_deciders()
        self.kafka.stop()

    def start(self, options: ProcessOptions, bootstrap_servers: str | None = None) -> DeciderProcess:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")}
        environment |= {"SWITCHBOARD_KEYRING": self.keyring, "SWITCHBOARD_LOG_LEVEL": "INFO"}
        if bootstrap_servers is None:
            environment |= self.login()
        else:
            environment["SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS"] = bootstrap_servers
        decider = DeciderProcess(options, environment, self._output)
        self._deciders.append(decider)
        return decider

    def login(self) -> dict[str, str]:
        """The variables with which a decider reaches the broker."""
        return {"SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers}

    def survivors(self) -> list[DeciderProcess]:
        """The deciders that still run."""
        return [decider for decider in self._deciders if not decider.is_down()]

    def end_deciders(self) -> None:
        for decider in self._deciders:
            decider.kill()
        self._deciders.clear()

    def signal_broker(self, name: signal.Signals) -> None:
        """Sends the signal without waiting; call `restart_broker` afterwards."""
        os.kill(self.kafka.pid, name)

    async def restart_broker(self) -> None:
        """Waits until the broker has ended, and starts it again."""
        await asyncio.to_thread(self.kafka.stop)
        await asyncio.to_thread(self.kafka.start)

    async def has_open_transactions(self) -> bool:
        """Whether any transaction on the log is neither committed nor aborted."""
        topic_partitions = [
            TopicPartition(topic.name, number) for topic in WRITTEN_TOPICS for number in self.all_partitions
        ]
        ends = []
        for level in ("read_committed", "read_uncommitted"):
            consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap_servers, isolation_level=level)
            await consumer.start()
            try:
                ends.append(await consumer.end_offsets(topic_partitions))
            finally:
                await consumer.stop()
        return bool(ends[0] != ends[1])

    async def wait_until_decided(self) -> None:
        """Waits until everything published before is decided, by a probe command on each partition.

        Sends two rounds of probes: a command on the wrong partition can be forwarded behind the first probe.
        """
        for turn in range(2):
            for partition in self.all_partitions:
                names = (f"probe-{turn}-{number}" for number in range(1_000))
                channel = next(one for one in names if partition_of(one, self.partitions) == partition)
                await self._send_probe(channel)

    async def _send_probe(self, channel: str) -> None:
        async with asyncio.timeout(90):
            while True:
                try:
                    async with Publisher(self.bootstrap_servers, source="faults", account="acme") as publisher:
                        await publisher.send(EditChannel(name="x"), channel=channel, timeout=15)
                        return
                except (OutcomeTimeout, PublisherError):
                    await asyncio.sleep(0.3)

    def writers(self, tp: TopicPartition) -> list[tuple[int, Writer]]:
        return writers_of(self._files, tp)

    async def check(self, reported: list[ReportedOutcome], published: list[bytes]) -> tuple[Log, list[str]]:
        """The whole log, and the violations found in it."""
        log = await read_log(self.bootstrap_servers, self.partitions, self.writers)
        return log, violations(log, reported, published)
