"""The topics, with the settings they are made with. Every topic has the same number of partitions."""

from __future__ import annotations

from dataclasses import dataclass, field

DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Topic:
    """``settings`` are Kafka's topic configs, as text."""

    name: str
    holds: str
    settings: dict[str, str] = field(default_factory=dict)


LARGEST_RECORD_BYTES = 2 * 1024 * 1024
_LARGEST_RECORD = {"max.message.bytes": str(LARGEST_RECORD_BYTES)}


def _kept(days: int) -> dict[str, str]:
    return _LARGEST_RECORD | {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}


def _from_outside(days: int) -> dict[str, str]:
    """What anybody publishes, compressed as they like: the broker unpacks it, because one batch in a codec that its
    reader lacks would stop the partition for ever, and because a record's size is then what it says. And its clock
    counts: by a publisher's, which may say 1970, retention could delete what nobody has read yet."""
    return _kept(days) | {"compression.type": "uncompressed", "message.timestamp.type": "LogAppendTime"}


def _with_room_for_headers(days: int) -> dict[str, str]:
    return _kept(days) | {"max.message.bytes": str(LARGEST_RECORD_BYTES + 64 * 1024)}


def _compacted() -> dict[str, str]:
    # The lag is bounded, so that a deleted secret is gone from the disk within a known time: a segment is closed and
    # cleaned within an hour, and the tombstone itself stays long enough for every reader to see it.
    return _LARGEST_RECORD | {
        "cleanup.policy": "compact",
        "segment.ms": str(60 * 60 * 1000),
        "max.compaction.lag.ms": str(60 * 60 * 1000),
        "min.cleanable.dirty.ratio": "0.5",
        "delete.retention.ms": str(DAY_MS),
    }


COMMANDS = Topic("switchboard.commands", "what is asked for", _from_outside(7))
EVENTS = Topic(
    "switchboard.events",
    "what happened: the log, kept for ever",
    _LARGEST_RECORD | {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"},
)
OUTCOMES = Topic("switchboard.outcomes", "the answer to each command", _kept(90))
CHANNEL_STATE = Topic("switchboard.channel-state", "the decider's state, and its checkpoints", _compacted())
SIGNATURES = Topic("switchboard.signatures", "the secrets, encrypted; tombstoned on delete", _compacted())
DEAD_LETTERS = Topic("switchboard.dead-letters", "what could not be read or decided", _with_room_for_headers(90))
INVOCATION_REQUESTS = Topic("switchboard.invocation-requests", "intents to call", _from_outside(7))
INVOCATIONS = Topic("switchboard.invocations", "how calls ended", _kept(90))
OTP_REQUESTS = Topic("switchboard.otp-requests", "authentication messages to route", _from_outside(7))
OTP_DECISIONS = Topic("switchboard.otp-decisions", "their routes, with reasons", _kept(90))

TOPICS: tuple[Topic, ...] = (
    COMMANDS,
    EVENTS,
    OUTCOMES,
    CHANNEL_STATE,
    SIGNATURES,
    DEAD_LETTERS,
    INVOCATION_REQUESTS,
    INVOCATIONS,
    OTP_REQUESTS,
    OTP_DECISIONS,
)
