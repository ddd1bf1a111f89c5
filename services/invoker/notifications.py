"""The records that tell how an invocation ended; the outbox by which they reach Kafka is in `outbox.py`."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import to_json

from contracts import topics
from contracts.business_system import DisableBusinessSystem
from contracts.envelope import CONTENT_TYPE
from contracts.invocation import IntentInvoked, InvocationFailed
from contracts.message import rfc3339

SOURCE = "switchboard"
ACTOR = "switchboard-invoker"
CONTENT_TYPE_HEADER = CONTENT_TYPE[0], CONTENT_TYPE[1].decode()
LARGEST_RECORD = 2 * 1024 * 1024
_LARGEST_PASSED_ON = LARGEST_RECORD - 64 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked, and is told: a request, and how often it was replayed; ``about`` is what it is told."""

    account: str
    channel: str
    request_id: str
    correlation_id: str
    replays: int = 0
    about: str = "outcome"

    @classmethod
    def of(cls, row: Any) -> Asked:
        return cls(row["account"], row["channel"], row["request_id"], row["correlation_id"], row["replays"])

    def notification_id(self) -> str:
        """Unique per request and replay: the same outcome told twice has the same id."""
        again = f"/{self.replays}" if self.replays else ""
        return f"{self.account}/{self.channel}/{self.request_id}/{self.about}{again}"


@dataclass(frozen=True, slots=True)
class Note:
    """A record to publish; where no ``partition`` is given, its key says on which."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: tuple[tuple[str, str], ...] = (CONTENT_TYPE_HEADER,)


def outcome_note(asked: Asked, outcome: IntentInvoked | InvocationFailed) -> Note:
    value = {
        "specversion": "1.0",
        "id": asked.notification_id(),
        "type": type(outcome).__name__,
        "source": SOURCE,
        "subject": asked.channel,
        "time": rfc3339(time.time_ns() // 1_000_000),
        "accountid": asked.account,
        "causationid": asked.request_id,
        "correlationid": asked.correlation_id,
        "datacontenttype": "application/json",
        "data": outcome,
    }
    return Note(topics.INVOCATIONS.name, asked.channel.encode(), to_json(value))


def reused_note(asked: Asked, digest: str, outcome: InvocationFailed) -> Note:
    """Told of a request whose id another one had before; ``digest`` tells the contents of several apart."""
    return outcome_note(replace(asked, about=f"reused/{digest}"), outcome)


def dead_letter(record: Any, reason: str) -> Note:
    """A record that nobody can be answered about, its key and bytes untouched.

    One so large that it and its headers are no record any more goes without its value, whose size a header tells then.
    """
    headers = {
        "reason": reason.replace("\n", " ").replace("\x00", " "),
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
    }
    value = record.value
    if len(record.key or b"") + len(value or b"") > _LARGEST_PASSED_ON:
        headers["omitted"], value = str(len(value or b"")), None
    return Note(topics.DEAD_LETTERS.name, record.key, value, record.partition, tuple(headers.items()))


def disable_command_id(delivery: str, attempt: int) -> str:
    """Unique per attempt: recorded twice, it is one command."""
    return f"disable:{delivery}:{attempt}"


def disable_note(row: Any, reason: str) -> Note:
    """The command that disables a system which a call at it has shown to be gone."""
    command = DisableBusinessSystem(system=row["system"], reason=reason)
    value = {
        "specversion": "1.0",
        "id": disable_command_id(row["id"], row["attempts"]),
        "type": type(command).__name__,
        "source": SOURCE,
        "subject": row["channel"],
        "time": rfc3339(time.time_ns() // 1_000_000),
        "accountid": row["account"],
        "actor": ACTOR,
        "correlationid": row["correlation_id"],
        "datacontenttype": "application/json",
        "data": command.model_dump(),
    }
    return Note(topics.COMMANDS.name, row["channel"].encode(), to_json(value))
