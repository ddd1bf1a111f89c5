"""What deletion needs besides commands: tombstones for secrets that expire, and rolls that let Kafka compact.

Kafka compacts only closed segments, and closes one only on an append that comes ``segment.ms`` after its first record.
On an idle partition a deleted secret would stay on the disk for as long as nothing is appended. So once the segment
time has passed since the last tombstone, and nothing was appended since, one record goes out that does nothing else:
a tombstone of a key of ours, which every reader of a compacted topic takes for the deletion of what it never had.
"""

from __future__ import annotations

import heapq
import logging
import re
from collections.abc import Iterable, Iterator, Mapping

from contracts import topics
from services.decider.partition_state import PartitionState
from services.domain.records import BUSINESS_SYSTEM
from services.infrastructure.transactions import OutgoingRecord
from services.infrastructure.vault import SignatureAddress

log = logging.getLogger(__name__)

ROLL_KEY = b"~roll"
EXPIRY_MARGIN_MS = 5_000
"""A secret outlives its grace period by so much, for clocks that differ."""

SEGMENT_MS = {topic.name: int(topic.settings["segment.ms"]) for topic in (topics.CHANNEL_STATE, topics.SIGNATURES)}
"""How long a segment of the compacted topics stays open, as we make them."""

_TOMBSTONES_AT_ONCE = 500
_MAY_EXPIRE = re.compile(rb'"valid_until":[0-9]')


class Upkeep:
    """Follows what is committed on one partition, and says what else is to be appended, and when."""

    def __init__(self, state: PartitionState, partition: int, segment_ms: Mapping[str, int]) -> None:
        self._state = state
        self._partition = partition
        self._segment_ms = segment_ms
        self._expiring: list[tuple[int, bytes]] = []
        """A heap of (Unix milliseconds, key on the signatures topic)."""
        for key, value in state.records.items():
            self._look_for_expiry(key, value)

    def committed(self, records: Iterable[OutgoingRecord], now: int) -> None:
        """Takes note of a transaction; ``now`` is the timestamp of its records."""
        for record in records:
            tail = self._state.tails.get(record.topic)
            if tail is not None:
                tail.appended(now, tombstone=record.value is None and record.key != ROLL_KEY)
                if record.value is not None and record.topic == topics.CHANNEL_STATE.name:
                    self._look_for_expiry(record.key or b"", record.value)

    def due(self, now: int) -> list[OutgoingRecord]:
        """Tombstones of expired secrets, and rolls, that are to be appended now; mostly none."""
        expired = [
            OutgoingRecord(topics.SIGNATURES.name, self._partition, key, None) for key in self._expired_keys(now)
        ]
        rolls = [
            OutgoingRecord(topic, self._partition, ROLL_KEY, None)
            for topic, tail in self._state.tails.items()
            if tail.needs_roll(now, self._segment_ms[topic])
        ]
        return [*expired, *rolls]

    def done(self, records: list[OutgoingRecord], now: int) -> None:
        """Takes over what `due` said, once it is committed."""
        for record in records:
            if record.topic == topics.SIGNATURES.name and record.key is not None:
                self._state.signatures.pop(record.key, None)
        self.committed(records, now)

    def _expired_keys(self, now: int) -> Iterator[bytes]:
        for _ in range(_TOMBSTONES_AT_ONCE):
            if not self._expiring or self._expiring[0][0] + EXPIRY_MARGIN_MS > now:
                return
            _, key = heapq.heappop(self._expiring)
            if key in self._state.signatures:
                yield key

    def _look_for_expiry(self, key: bytes, value: bytes) -> None:
        # The pattern only spares decoding: what it finds may as well be an intent's data.
        if b"/" not in key or not _MAY_EXPIRE.search(value):
            return
        channel, system = key.decode().split("/")
        try:
            signatures = BUSINESS_SYSTEM.decode(value).signatures
        except ValueError:  # one bad record, which its own commands will hit, must not stop the partition
            log.error("the state record %s cannot be read; `switchboard state rebuild` makes it anew", key.decode())
            return
        for signature in signatures:
            if signature.valid_until is not None:
                address = SignatureAddress(channel, system, signature.key_id)
                heapq.heappush(self._expiring, (signature.valid_until, address.record_key()))
