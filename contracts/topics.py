"""The topics and their Kafka configuration. Every topic is made with the same number of partitions; those whose records
belong to channels can get more (`GROWING`)."""

from __future__ import annotations

from dataclasses import dataclass, field

DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Topic:
    """``settings`` is the topic configuration of Kafka."""

    name: str
    holds: str
    settings: dict[str, str] = field(default_factory=dict)


LARGEST_RECORD_BYTES = 2 * 1024 * 1024
LARGEST_RATE_BOOK_BYTES = 3 * 1024 * 1024
"""Of `RATES`: 20,000 rates of the longest fields are 2.4 MB."""
FETCH_BYTES_PER_PARTITION = 2 * LARGEST_RECORD_BYTES
"""How much a consumer fetches of a partition at once: more than the largest record."""
_LARGEST_RECORD = {"max.message.bytes": str(LARGEST_RECORD_BYTES)}


def _retained(days: int) -> dict[str, str]:
    return _LARGEST_RECORD | {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}


def _from_clients(days: int) -> dict[str, str]:
    """Topics of records from any client, in any compression codec.

    The broker decompresses them: a batch in a codec that its reader lacks would block the partition, and its size could
    not be limited. The broker also sets the time: by a client's clock, retention could delete unread records.
    """
    return _retained(days) | {"compression.type": "uncompressed", "message.timestamp.type": "LogAppendTime"}


def _with_room_for_headers(days: int) -> dict[str, str]:
    return _retained(days) | {"max.message.bytes": str(LARGEST_RECORD_BYTES + 64 * 1024)}


def _compacted() -> dict[str, str]:
    # A bounded lag, so that a deleted secret leaves the disk within a known time: a segment is closed and compacted
    # within an hour. The tombstone stays long enough for every reader to see it.
    return _LARGEST_RECORD | {
        "cleanup.policy": "compact",
        "segment.ms": str(60 * 60 * 1000),
        "max.compaction.lag.ms": str(60 * 60 * 1000),
        # So long, a record before a backup's cut is still there for it to read, whatever comes after the cut.
        "min.compaction.lag.ms": str(30 * 60 * 1000),
        "min.cleanable.dirty.ratio": "0.5",
        "delete.retention.ms": str(DAY_MS),
    }


def _compacted_from_clients() -> dict[str, str]:
    return _from_clients(7) | _compacted() | {"retention.ms": "-1"}


COMMANDS = Topic("switchboard.commands", "what is asked for", _from_clients(7))
EVENTS = Topic(
    "switchboard.events",
    "what happened: the log, kept for ever",
    _LARGEST_RECORD | {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"},
)
OUTCOMES = Topic("switchboard.outcomes", "the answer to each command", _retained(90))
CHANNEL_STATE = Topic("switchboard.channel-state", "the decider's state, and its checkpoints", _compacted())
SIGNATURES = Topic("switchboard.signatures", "the secrets, encrypted; tombstoned on delete", _compacted())
DEAD_LETTERS = Topic("switchboard.dead-letters", "what could not be read or decided", _with_room_for_headers(90))
INVOCATION_REQUESTS = Topic("switchboard.invocation-requests", "intents to call", _from_clients(7))
INVOCATIONS = Topic("switchboard.invocations", "how calls ended", _retained(90))
MESSAGE_REQUESTS = Topic("switchboard.message-requests", "messages to route, and their statuses", _from_clients(7))
MESSAGE_DECISIONS = Topic(
    "switchboard.message-decisions", "routes with reasons, and what became of them", _retained(90)
)
SCHEDULING_RESOURCES = Topic(
    "switchboard.scheduling-resources", "the platform's pools of sender numbers, by resource", _compacted_from_clients()
)
RATES = Topic(
    "switchboard.rates",
    "the rate book",
    _compacted_from_clients() | {"max.message.bytes": str(LARGEST_RATE_BOOK_BYTES)},
)
USAGE = Topic("switchboard.usage", "what is charged, one record per message", _retained(400))
ACCESS_LOG_DAYS = 400
ACCESS_LOG = Topic(
    "switchboard.access-log",
    "shown secrets, failed log-ons, denied operations, changes of API keys",
    _retained(ACCESS_LOG_DAYS),
)
OUTBOX_POSITIONS = Topic(
    "switchboard.outbox-positions", "how far the message router's outbox is published, by database", _compacted()
)

PARTITION_GROWTH = Topic("switchboard.partition-growth", "how the number of partitions grew", _compacted())
UNFINISHED_RESTORE = "switchboard.unfinished-restore"
"""No topic of the log: it exists while `switchboard restore` has not finished, and has no records."""

TOPICS: tuple[Topic, ...] = (
    COMMANDS,
    EVENTS,
    OUTCOMES,
    CHANNEL_STATE,
    SIGNATURES,
    DEAD_LETTERS,
    INVOCATION_REQUESTS,
    INVOCATIONS,
    MESSAGE_REQUESTS,
    MESSAGE_DECISIONS,
    SCHEDULING_RESOURCES,
    RATES,
    USAGE,
    ACCESS_LOG,
    OUTBOX_POSITIONS,
    PARTITION_GROWTH,
)

COMPACTED = tuple(topic for topic in TOPICS if "compact" in topic.settings["cleanup.policy"])

GROWING = (
    COMMANDS,
    EVENTS,
    OUTCOMES,
    CHANNEL_STATE,
    SIGNATURES,
    DEAD_LETTERS,
    INVOCATION_REQUESTS,
    INVOCATIONS,
)
"""Of these the partitions can grow. The message router's keep their number: its messages, timers and outbox are by
partition. Rates and scheduling resources do too: a key's last value would stay on its old partition."""
