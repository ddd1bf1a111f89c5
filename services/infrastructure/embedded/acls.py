"""Who may do what on the embedded broker, and how much: one principal per service, with the rights that it uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from contracts import topics
from contracts.topics import Topic

BROKER = "broker"
"""The broker itself, as a client of itself and of its controller."""
ADMIN = "admin"
"""The operator: `switchboard` on the command line. Like the broker, a super user, to whom no ACL applies."""
CUSTOMER = "demo"
"""Somebody who publishes commands and reads what became of them."""
SUPER_USERS = (BROKER, ADMIN)


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


@dataclass(frozen=True, slots=True)
class Acl:
    """Allows the principal an operation; ``prefix`` says that ``name`` is where the resource's name begins."""

    principal: str
    resource: Resource
    name: str
    operation: Operation
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class _Rights:
    reads: tuple[Topic, ...] = ()
    writes: tuple[Topic, ...] = ()
    groups: str = ""
    transactions: str = ""


_RIGHTS = {
    "decider": _Rights(
        reads=(topics.COMMANDS, topics.EVENTS, topics.OUTCOMES, topics.CHANNEL_STATE, topics.SIGNATURES),
        writes=(
            topics.COMMANDS,  # a record on the wrong partition is rerouted
            topics.EVENTS,
            topics.OUTCOMES,
            topics.CHANNEL_STATE,
            topics.SIGNATURES,
            topics.DEAD_LETTERS,
        ),
        groups="switchboard.decider",
        transactions="switchboard.decider-",
    ),
    "projector": _Rights(reads=(topics.EVENTS, topics.OUTCOMES), groups="switchboard.projector"),
    "invoker": _Rights(
        reads=(topics.EVENTS, topics.SIGNATURES, topics.INVOCATION_REQUESTS),
        writes=(topics.INVOCATIONS, topics.COMMANDS, topics.DEAD_LETTERS),
        groups="switchboard.invoker",
    ),
    "message-router": _Rights(
        reads=(
            topics.EVENTS,
            topics.MESSAGE_REQUESTS,
            topics.SCHEDULING_RESOURCES,
            topics.RATES,
            topics.OUTBOX_POSITIONS,
        ),
        writes=(topics.MESSAGE_DECISIONS, topics.USAGE, topics.DEAD_LETTERS, topics.OUTBOX_POSITIONS),
        groups="switchboard.message-router",
        transactions="switchboard.message-router-",
    ),
    "gateway": _Rights(
        reads=(topics.EVENTS, topics.OUTCOMES, topics.CHANNEL_STATE, topics.MESSAGE_DECISIONS),
        writes=(
            topics.COMMANDS,
            topics.INVOCATION_REQUESTS,
            topics.MESSAGE_REQUESTS,
            topics.SCHEDULING_RESOURCES,
            topics.RATES,
            topics.ACCESS_LOG,
        ),
    ),
    CUSTOMER: _Rights(
        reads=(topics.EVENTS, topics.OUTCOMES, topics.INVOCATIONS, topics.MESSAGE_DECISIONS),
        writes=(topics.COMMANDS, topics.INVOCATION_REQUESTS, topics.MESSAGE_REQUESTS),
        groups="demo",
    ),
}

PRINCIPALS = (*SUPER_USERS, *_RIGHTS)

QUOTAS = {
    CUSTOMER: {
        "producer_byte_rate": 2.0**20,  # some 2,000 commands a second, which is what a decider keeps up with
        "consumer_byte_rate": 8 * 2.0**20,
        "request_percentage": 50.0,  # of one thread of the broker
    }
}
"""Kafka's quotas by principal. The services have none: a throttled service would make everybody wait."""


def _acls(principal: str, rights: _Rights) -> Iterator[Acl]:
    yield from (Acl(principal, Resource.TOPIC, topic.name, Operation.READ) for topic in rights.reads)
    yield from (Acl(principal, Resource.TOPIC, topic.name, Operation.WRITE) for topic in rights.writes)
    if rights.groups:
        yield Acl(principal, Resource.GROUP, rights.groups, Operation.READ, prefix=True)
    if rights.transactions:
        yield Acl(principal, Resource.TRANSACTIONAL_ID, rights.transactions, Operation.WRITE, prefix=True)


ACLS: tuple[Acl, ...] = tuple(acl for principal, rights in _RIGHTS.items() for acl in _acls(principal, rights))


def protocol_entries(acls: Iterable[Acl]) -> list[tuple[int, str, int, str, str, int, int]]:
    """The ACLs as a CreateAcls request has them, from any host."""
    literal, prefixed, allow = 3, 4, 3
    return [
        (
            acl.resource,
            acl.name,
            prefixed if acl.prefix else literal,
            f"User:{acl.principal}",
            "*",
            acl.operation,
            allow,
        )
        for acl in acls
    ]
