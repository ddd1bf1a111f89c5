"""What whoever takes over a partition does first: one transactional id a partition, and an abort of leftovers."""

from __future__ import annotations

from contracts import topics
from services.infrastructure.transactions import OutgoingRecord, TransactionalProducer

FENCE_KEY = b"~fence"
WRITTEN_TOPICS = (
    topics.EVENTS,
    topics.OUTCOMES,
    topics.CHANNEL_STATE,
    topics.SIGNATURES,
    topics.DEAD_LETTERS,
)


def transactional_id(partition: int) -> str:
    """One per input partition, the same for every process: this is what fences."""
    return f"switchboard.decider-{partition}"


async def abort_leftovers(producer: TransactionalProducer, partition: int, partitions: int, now: int) -> None:
    """Aborts a transaction that touches every partition that an owner may write to.

    A broker that was killed and restarted can otherwise let the next commit of the same producer id commit leftovers.
    """
    everywhere = [OutgoingRecord(topic.name, partition, FENCE_KEY, b"") for topic in WRITTEN_TOPICS]
    everywhere += [OutgoingRecord(topics.COMMANDS.name, home, FENCE_KEY, b"") for home in range(partitions)]
    await producer.begin()
    await producer.append(everywhere, now)
    await producer.abort()
