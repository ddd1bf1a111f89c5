"""The records that the invoker publishes: outcomes of invocations, dead letters, commands that disable a system."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import to_json

from contracts import topics
from contracts.business_system import DisableBusinessSystem
from contracts.invocation import IntentInvoked, InvocationFailed
from contracts.message import rfc3339
from services.infrastructure.dead_letter import dead_letter
from services.invoker.outbox.records import OutboxRecord

SOURCE = "switchboard"
ACTOR = "switchboard-invoker"


@dataclass(frozen=True, slots=True)
class Requester:
    """The request that an outcome answers, and how often it was replayed. ``subject`` tells several outcomes apart."""

    account: str
    channel: str
    request_id: str
    correlation_id: str
    replays: int = 0
    subject: str = "outcome"
    traceparent: str | None = None

    def notification_id(self) -> str:
        """Unique per request and replay: an outcome that is published twice has the same id."""
        replay = f"/{self.replays}" if self.replays else ""
        return f"{self.account}/{self.channel}/{self.request_id}/{self.subject}{replay}"


def outcome_record(requester: Requester, outcome: IntentInvoked | InvocationFailed) -> OutboxRecord:
    value = {
        "specversion": "1.0",
        "id": requester.notification_id(),
        "type": type(outcome).__name__,
        "source": SOURCE,
        "subject": requester.channel,
        "time": rfc3339(time.time_ns() // 1_000_000),
        "accountid": requester.account,
        "causationid": requester.request_id,
        "correlationid": requester.correlation_id,
        **({} if requester.traceparent is None else {"traceparent": requester.traceparent}),
        "datacontenttype": "application/json",
        "data": outcome,
    }
    return OutboxRecord(topics.INVOCATIONS.name, requester.channel.encode(), to_json(value))


def request_id_reused_record(requester: Requester, digest: str, outcome: InvocationFailed) -> OutboxRecord:
    """The refusal of a request whose id another request had before.

    ``digest`` is of its content: several requests with the same id get one refusal per content.
    """
    return outcome_record(replace(requester, subject=f"reused/{digest}"), outcome)


def dead_letter_record(record: Any, reason: str) -> OutboxRecord:
    """An unreadable request as a dead letter on the partition of the same number."""
    letter = dead_letter(record, record.topic, record.partition, reason)
    return OutboxRecord(
        topics.DEAD_LETTERS.name, letter.key, letter.value, record.partition, tuple(letter.headers.items())
    )


def disable_command_id(delivery: str, attempt: int) -> str:
    """Unique per attempt: an attempt that is recorded twice sends one command."""
    return f"disable:{delivery}:{attempt}"


def disable_command(requester: Requester, system: str, command_id: str, reason: str) -> OutboxRecord:
    """The command that disables a system whose calls keep failing; the requester is that of the last call."""
    command = DisableBusinessSystem(system=system, reason=reason)
    value = {
        "specversion": "1.0",
        "id": command_id,
        "type": type(command).__name__,
        "source": SOURCE,
        "subject": requester.channel,
        "time": rfc3339(time.time_ns() // 1_000_000),
        "accountid": requester.account,
        "actor": ACTOR,
        "correlationid": requester.correlation_id,
        "datacontenttype": "application/json",
        "data": command.model_dump(),
    }
    return OutboxRecord(topics.COMMANDS.name, requester.channel.encode(), to_json(value))
