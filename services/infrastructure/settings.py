"""What the environment says: every ``SWITCHBOARD_…`` variable that the product reads, in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


class SettingsError(Exception):
    """A variable holds what cannot be used; the sentence names it and says what would be right."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The product's settings, read once at start.

    ``kafka_bootstrap_servers`` and ``database_url`` are None where nothing is given; ``switchboard up``
    then starts the embedded broker and database.
    """

    kafka_bootstrap_servers: str | None
    database_url: str | None
    data_dir: Path
    http_host: str
    http_port: int
    kafka_port: int
    postgres_port: int | None
    partitions: int
    keyring: str | None
    invoker_allow: tuple[str, ...]
    invoker_retry_seconds: tuple[float, ...] | None
    delivery_log_days: int = 30

    def own_addresses(self) -> tuple[str, ...]:
        """``host:port`` of our own broker, database and API, which signed calls must never reach."""
        database = urlsplit(self.database_url or "")
        return (
            *(part.strip() for part in (self.kafka_bootstrap_servers or "").split(",") if part.strip()),
            *([f"{database.hostname}:{database.port or 5432}"] if database.hostname else []),
            f"{self.http_host}:{self.http_port}",
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Reads the variables; raises `SettingsError` on one that cannot be used."""

        def text(name: str) -> str | None:
            return environment.get(f"SWITCHBOARD_{name}", "").strip() or None

        def number(name: str, low: int, high: int) -> int | None:
            raw = text(name)
            if raw is None:
                return None
            if not raw.isascii() or not raw.isdigit() or not low <= int(raw) <= high:
                raise SettingsError(f"SWITCHBOARD_{name} is {raw!r}; it must be a whole number from {low} to {high}.")
            return int(raw)

        def waits() -> tuple[float, ...] | None:
            raw = text("INVOKER_RETRY_SECONDS")
            try:
                parsed = None if raw is None else tuple(float(part) for part in raw.split(","))
            except ValueError:
                parsed = ()
            if parsed is not None and (not parsed or not all(0 < wait < 1e6 for wait in parsed)):
                raise SettingsError(
                    f"SWITCHBOARD_INVOKER_RETRY_SECONDS is {raw!r}; it must be waits between attempts, like 5,30,120."
                )
            return parsed

        return cls(
            kafka_bootstrap_servers=text("KAFKA_BOOTSTRAP_SERVERS"),
            database_url=text("DATABASE_URL"),
            data_dir=Path(text("DATA_DIR") or ".data").absolute(),
            http_host=text("HTTP_HOST") or "127.0.0.1",
            http_port=number("HTTP_PORT", 1, 65535) or 8080,
            kafka_port=number("KAFKA_PORT", 1, 65535) or 9092,
            postgres_port=number("POSTGRES_PORT", 1, 65535),
            partitions=number("PARTITIONS", 1, 1024) or 8,
            keyring=text("KEYRING"),
            invoker_allow=tuple(part.strip() for part in (text("INVOKER_ALLOW") or "").split(",") if part.strip()),
            invoker_retry_seconds=waits(),
            delivery_log_days=number("DELIVERY_LOG_DAYS", 1, 3650) or 30,
        )
