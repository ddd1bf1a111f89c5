"""The tests' broker and database: from the environment, by testcontainers where Docker answers, else embedded."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres

PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Servers:
    """``directories`` hold what the embedded ones write; empty where they are not ours."""

    bootstrap_servers: str
    dsn: str
    directories: tuple[Path, ...]


@cache
def docker_answers() -> bool:
    return shutil.which("docker") is not None and (
        subprocess.run(("docker", "info"), capture_output=True, check=False, timeout=20).returncode == 0
    )


@contextmanager
def servers(directory: Path) -> Iterator[Servers]:
    """A broker and a database, for as long as the context lasts."""
    with ExitStack() as stack:
        kafka = os.environ.get("SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS")
        dsn = os.environ.get("SWITCHBOARD_DATABASE_URL")
        directories = []
        if kafka is None and docker_answers():
            from testcontainers.kafka import KafkaContainer

            kafka = stack.enter_context(KafkaContainer("apache/kafka:4.1.0")).get_bootstrap_server()
        elif kafka is None:
            kafka = stack.enter_context(EmbeddedKafka(directory / "kafka")).bootstrap_servers
            directories.append(directory / "kafka")
        if dsn is None and docker_answers():
            from testcontainers.postgres import PostgresContainer

            container = stack.enter_context(PostgresContainer("postgres:18", driver=None))
            dsn = container.get_connection_url()
        elif dsn is None:
            dsn = stack.enter_context(EmbeddedPostgres(directory / "postgres", durable=False)).dsn
            directories.append(directory / "postgres")
        yield Servers(str(kafka), str(dsn), tuple(directories))
