"""The tests' broker and database: from the environment, by testcontainers where Docker answers, else embedded."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from services.infrastructure.embedded.process import free_port

PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Servers:
    """``directories`` hold what the embedded ones write; empty where they are not ours."""

    bootstrap_servers: str
    dsn: str
    directories: tuple[Path, ...]
    logins: Callable[[str], dict[str, str]] = field(default=lambda _: {})
    """The variables with which a service logs in to the embedded servers. The database's name is to be put in. Tests'
    own clients use the broker's open port, and log in to the database as its owner."""


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
        logins: list[Callable[[str], dict[str, str]]] = []
        if kafka is None and docker_answers():
            from testcontainers.kafka import KafkaContainer

            kafka = stack.enter_context(KafkaContainer("apache/kafka:4.1.0")).get_bootstrap_server()
        elif kafka is None:
            open_port = free_port()
            broker = stack.enter_context(EmbeddedKafka(directory / "kafka", secured=True, open_port=open_port))
            kafka = f"127.0.0.1:{open_port}"
            logins.append(broker.environment)
            directories.append(directory / "kafka")
        if dsn is None and docker_answers():
            from testcontainers.postgres import PostgresContainer

            container = stack.enter_context(PostgresContainer("postgres:18", driver=None))
            dsn = container.get_connection_url()
        elif dsn is None:
            database = stack.enter_context(EmbeddedPostgres(directory / "postgres", durable=False))
            dsn = database.dsn
            logins.append(database.environment)
            directories.append(directory / "postgres")
        yield Servers(str(kafka), str(dsn), tuple(directories), partial(_of_all, logins))


def _of_all(logins: Sequence[Callable[[str], dict[str, str]]], service: str) -> dict[str, str]:
    return {name: value for login in logins for name, value in login(service).items()}
