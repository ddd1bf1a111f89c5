"""The testbed of a benchmark: a broker and a database of its own, and each contestant as a process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from rich.console import Console

from services.cli.run_service import ready_line
from services.infrastructure.embedded.cluster import EmbeddedCluster, Ports
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from services.infrastructure.embedded.process import free_port
from services.infrastructure.topics import apply_topics
from services.infrastructure.vault import KeyRing
from tests.installation import run_apart

PARTITIONS = 8
_READY_TIMEOUT_S = 300.0


class ContestantFailed(Exception):
    """The process ended, or never reported that it is ready."""


class Contestant:
    """A Python process that prints a line when it is ready, and ends when its standard input closes."""

    def __init__(self, command: list[str], environment: dict[str, str], ready: str, log: Path) -> None:
        self._ready = threading.Event()
        with log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        threading.Thread(target=self._read, args=(ready,), daemon=True).start()
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not self._ready.wait(0.05):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ContestantFailed(f"{command} is not ready:\n{log.read_text()[-2000:]}")

    def _read(self, ready: str) -> None:
        for line in self.process.stdout or ():
            if line.strip() == ready:
                self._ready.set()

    def resident_bytes(self) -> int:
        """The resident memory of the process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def processor_s(self) -> float:
        """The processor time that it has used, which other load distorts least."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass
class Testbed:
    """``scale`` shrinks large counts for a quick run; ``rounds`` of each contestant are interleaved.

    ``brokers`` is 1, or 3 with as many replicas. All contestants use their open ports, without TLS.
    """

    directory: Path
    scale: float
    console: Console
    stack: ExitStack
    brokers: int = 1
    keyring: str = field(default_factory=KeyRing.make)
    partitions: int = PARTITIONS

    @property
    def rounds(self) -> int:
        return 5 if self.scale >= 0.5 else 3

    def scaled(self, count: int, least: int = 10) -> int:
        return max(least, round(count * self.scale))

    def log(self, text: str) -> None:
        self.console.print(f"[dim]{text}[/dim]")

    @cached_property
    def bootstrap_servers(self) -> str:
        if self.brokers == 1:
            broker = EmbeddedKafka(self.directory / "kafka")
            _started_apart(self.stack, broker)
            servers = broker.bootstrap_servers
        else:
            listening = {one: Ports(free_port(), free_port(), free_port()) for one in range(1, self.brokers + 1)}
            cluster = EmbeddedCluster(self.directory / "cluster", listening=listening)
            _started_apart(self.stack, cluster)
            servers = cluster.open_bootstrap_servers
        run_apart(apply_topics(servers, self.partitions, {}))
        return servers

    @cached_property
    def dsn(self) -> str:
        database = EmbeddedPostgres(self.directory / "postgres")
        _started_apart(self.stack, database)
        return database.dsn

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")}
        return kept | {
            "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "SWITCHBOARD_DATA_DIR": str(self.directory),
            "SWITCHBOARD_PARTITIONS": str(self.partitions),
            "SWITCHBOARD_KEYRING": self.keyring,
        }

    @contextmanager
    def service(self, name: str, **more: str) -> Iterator[Contestant]:
        """One of the services, as in production."""
        command = ["-m", "services.cli", "run", name, "--with-parent"]
        contestant = Contestant(command, self.environment() | more, ready_line(name), self.directory / f"{name}.log")
        try:
            yield contestant
        finally:
            contestant.stop()

    @contextmanager
    def script(self, module: str, *arguments: str, **more: str) -> Iterator[Contestant]:
        """A module of `tests.bench` that prints ``ready``."""
        command = ["-m", f"tests.bench.{module}", *arguments]
        contestant = Contestant(command, self.environment() | more, "ready", self.directory / f"{module}.log")
        try:
            yield contestant
        finally:
            contestant.stop()


def _started_apart(stack: ExitStack, server: EmbeddedKafka | EmbeddedCluster | EmbeddedPostgres) -> None:
    """Starts the server in a thread, because the caller is in an event loop."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(server.start).result()
    stack.callback(server.stop)


@contextmanager
def open_testbed(scale: float, console: Console, brokers: int = 1) -> Iterator[Testbed]:
    with TemporaryDirectory(prefix="switchboard-bench-") as directory, ExitStack() as stack:
        yield Testbed(Path(directory), scale, console, stack, brokers)
