"""Who may do what on the broker, and how much: `deploy/acls.yaml` as the protocol has it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict

import deploy
from contracts.topics import TOPICS, UNFINISHED_RESTORE

BROKER = "broker"
"""The broker itself, as a client of itself and of its controller."""
ADMIN = "admin"
"""The operator: `switchboard` on the command line. Like the broker, a super user, to whom no ACL applies."""
CUSTOMER = "demo"
"""Somebody who publishes commands and reads what became of them."""
SUPER_USERS = (BROKER, ADMIN)
FILE = Path(deploy.__file__).with_name("acls.yaml")


class Resource(IntEnum):
    """Kafka's resource types, by their numbers in the protocol."""

    TOPIC = 2
    GROUP = 3
    TRANSACTIONAL_ID = 5


class Operation(IntEnum):
    """Kafka's operations, by their numbers in the protocol. READ and WRITE include DESCRIBE."""

    READ = 3
    WRITE = 4
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10


LITERAL, PREFIXED, ALLOW = 3, 4, 3


class AclEntry(NamedTuple):
    """An ACL in the protocol's order and numbers, as requests and answers have it."""

    resource: int
    name: str
    pattern: int
    principal: str
    host: str
    operation: int
    permission: int

    def __str__(self) -> str:
        kinds, operations = (
            {one.value: one.name.lower() for one in Resource},
            {one.value: one.name for one in Operation},
        )
        what = f"{kinds.get(self.resource, self.resource)} {self.name}{'*' if self.pattern == PREFIXED else ''}"
        verb = "may" if self.permission == ALLOW else "may not"
        return f"{self.principal} {verb} {operations.get(self.operation, self.operation)} {what} from {self.host}"


class Rights(BaseModel):
    """What a principal may; ``groups`` and ``transactions`` are where the names begin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    reads_settings: tuple[str, ...] = ()
    groups: str = ""
    transactions: str = ""
    quotas: dict[str, float] = {}

    def entries(self, principal: str) -> Iterator[AclEntry]:
        """From any host."""
        user = f"User:{principal}"
        for names, operation in (
            (self.reads, Operation.READ),
            (self.writes, Operation.WRITE),
            (self.reads_settings, Operation.DESCRIBE_CONFIGS),
        ):
            yield from (AclEntry(Resource.TOPIC, name, LITERAL, user, "*", operation, ALLOW) for name in names)
        if self.groups:
            yield AclEntry(Resource.GROUP, self.groups, PREFIXED, user, "*", Operation.READ, ALLOW)
        if self.transactions:
            yield AclEntry(Resource.TRANSACTIONAL_ID, self.transactions, PREFIXED, user, "*", Operation.WRITE, ALLOW)


def _read() -> dict[str, Rights]:
    rights = {name: Rights.model_validate(given) for name, given in yaml.safe_load(FILE.read_bytes()).items()}
    named = {topic for one in rights.values() for topic in (*one.reads, *one.writes, *one.reads_settings)}
    if unknown := named - {topic.name for topic in TOPICS} - {UNFINISHED_RESTORE}:
        raise ValueError(f"{FILE.name} names topics that do not exist: {', '.join(sorted(unknown))}")
    return rights


RIGHTS = _read()
PRINCIPALS = (*SUPER_USERS, *RIGHTS)
ACLS = frozenset(entry for principal, rights in RIGHTS.items() for entry in rights.entries(principal))
QUOTAS = {principal: rights.quotas for principal, rights in RIGHTS.items()}
