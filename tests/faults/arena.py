"""Where a round takes place: a broker of its own, and deciders that can be stopped, woken and killed."""

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
from contracts.partitioner import partition_of
from contracts.publisher import OutcomeTimeout, Publisher, PublisherBroken
from services.decider.fence import WRITTEN_TOPICS
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.topics import apply_topics
from services.infrastructure.vault import KeyRing
from tests.faults.checker import Answer, violations
from tests.faults.log import Log, read_log
from tests.faults.victim import READY, Order

_READY_S = 60.0


class Victim:
    """A decider process under an order."""

    def __init__(self, order: Order, environment: dict[str, str], output: Path) -> None:
        self._ready = threading.Event()
        with output.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.victim", order.model_dump_json()],
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
        """Returns when it serves its partitions, or has ended or been stopped before."""
        async with asyncio.timeout(_READY_S):
            while not self._ready.is_set() and not self.struck():
                await asyncio.sleep(0.02)

    def struck(self) -> bool:
        """Whether it is gone, or stopped by a signal."""
        return self.process.poll() is not None or psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED

    async def struck_within(self, seconds: float) -> bool:
        for _ in range(round(seconds / 0.02)):
            if self.struck():
                return True
            await asyncio.sleep(0.02)
        return False

    def send(self, name: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(name)

    def wake(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Arena:
    """A context manager; ``partitions`` is of every topic."""

    def __init__(self, directory: Path, partitions: int = 2) -> None:
        self.partitions = partitions
        # A broker that has just started then looks before it knows its partitions, and takes them for deleted ones.
        self.kafka = EmbeddedKafka(directory / "kafka", abort_scan_ms=10)
        self._output = directory / "deciders.log"
        self._files = directory / "kafka" / "logs"
        self._keyring = KeyRing.make()
        self._victims: list[Victim] = []

    @property
    def everything(self) -> tuple[int, ...]:
        return tuple(range(self.partitions))

    def __enter__(self) -> Arena:
        self.kafka.start()
        asyncio.run(apply_topics(self.kafka.bootstrap_servers, self.partitions, {}))
        return self

    def __exit__(self, *_: object) -> None:
        self.end_deciders()
        self.kafka.stop()

    def start(self, order: Order, bootstrap_servers: str | None = None) -> Victim:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")}
        environment |= {
            "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers or self.kafka.bootstrap_servers,
            "SWITCHBOARD_KEYRING": self._keyring,
            "SWITCHBOARD_LOG_LEVEL": "INFO",
        }
        victim = Victim(order, environment, self._output)
        self._victims.append(victim)
        return victim

    def survivors(self) -> list[Victim]:
        """The deciders that still run."""
        return [victim for victim in self._victims if not victim.struck()]

    def end_deciders(self) -> None:
        for victim in self._victims:
            victim.kill()
        self._victims.clear()

    def strike_broker(self, name: signal.Signals) -> None:
        """The signal, and no waiting; `restart_broker` has to follow."""
        os.kill(self.kafka.pid, name)

    async def restart_broker(self) -> None:
        """Waits for its end, and starts it again."""
        await asyncio.to_thread(self.kafka.stop)
        await asyncio.to_thread(self.kafka.start)

    async def has_open_transactions(self) -> bool:
        """Whether something on the log is neither committed nor aborted."""
        homes = [TopicPartition(topic.name, number) for topic in WRITTEN_TOPICS for number in self.everything]
        ends = []
        for level in ("read_committed", "read_uncommitted"):
            consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka.bootstrap_servers, isolation_level=level)
            await consumer.start()
            try:
                ends.append(await consumer.end_offsets(homes))
            finally:
                await consumer.stop()
        return bool(ends[0] != ends[1])

    async def settle(self) -> None:
        """Returns when whatever was published before is decided: a command behind it on each partition is answered.

        Twice, because what came to a wrong partition is forwarded behind the first of them.
        """
        for turn in range(2):
            for partition in self.everything:
                names = (f"settle-{turn}-{number}" for number in range(1_000))
                channel = next(one for one in names if partition_of(one, self.partitions) == partition)
                await self._decided(channel)

    async def _decided(self, channel: str) -> None:
        async with asyncio.timeout(90):
            while True:
                try:
                    async with Publisher(self.kafka.bootstrap_servers, source="nemesis", account="acme") as publisher:
                        await publisher.send(EditChannel(name="x"), channel=channel, timeout=15)
                        return
                except (OutcomeTimeout, PublisherBroken):
                    await asyncio.sleep(0.3)

    async def judge(self, answers: list[Answer], published: list[bytes]) -> tuple[Log, list[str]]:
        """The whole log, and what does not hold of it."""
        log = await read_log(self.kafka.bootstrap_servers, self.partitions, self._files)
        return log, violations(log, answers, published)
