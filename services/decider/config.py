"""What the decider is configured with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from contracts.partition_growth import Partitions
from services.decider.idempotency_window import COMMANDS_PER_ACCOUNT
from services.domain.url_policy import Allowlist
from services.infrastructure.vault import KeyRing
from services.schema_validation.validator import SchemaValidator


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """The broker's address, and aiokafka's security options."""

    bootstrap_servers: str
    security: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeciderConfig:
    """What a partition's decisions need besides its state. ``partitions`` is how many have channels, and ``growth`` how
    they became so many."""

    partition: int
    partitions: int
    keyring: KeyRing
    allowlist: Allowlist
    commands_per_account: int = COMMANDS_PER_ACCOUNT
    """Of one account on one partition within 24 hours."""
    schemas: SchemaValidator = field(default_factory=SchemaValidator)
    """One for all partitions of the process."""
    growth: Partitions = field(default_factory=Partitions)
