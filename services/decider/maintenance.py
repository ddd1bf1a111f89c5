"""Maintenance: deletes expired secrets, reencrypts with the newest key, stores the window, rolls segments, and sends
the commands of scheduled changes.

Kafka compacts only closed segments, and closes one only on an append that comes ``segment.ms`` after its first record.
On an idle partition a deleted secret would stay on disk until the next append. So when ``segment.ms`` has passed since
the last tombstone, and nothing was appended since, a roll record is appended: a tombstone of a reserved key, which
changes nothing for any reader of the topic.

When the key ring has a newer key, every secret is reencrypted with it, so that the older key can be removed from the
ring. The old ciphertext is then compacted away as a deleted secret is.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping

import structlog

from contracts import topics
from services.decider.idempotency_window import CHUNK_KEY_PREFIX
from services.decider.partition_state import PartitionState, put
from services.decider.scheduled_changes import ScheduledChanges
from services.domain.state_codec import BUSINESS_SYSTEM
from services.infrastructure.transactions import OutgoingRecord
from services.infrastructure.vault import KeyRing, SignatureAddress, VaultError

log = structlog.stdlib.get_logger(__name__)

ROLL_KEY = b"~roll"
EXPIRY_MARGIN_MS = 5_000
"""A secret is deleted this long after its grace period, because clocks differ."""

SEGMENT_MS = {topic.name: int(topic.settings["segment.ms"]) for topic in (topics.CHANNEL_STATE, topics.SIGNATURES)}
"""How long a segment of a compacted topic stays open, as `switchboard topics apply` creates it."""

_SECRETS_PER_TRANSACTION = 500
"""Expired ones, and reencrypted ones."""
_MAY_EXPIRE = re.compile(rb'"valid_until":[0-9]')


class Maintenance:
    """Follows the committed records of one partition, and returns the records that are due on it."""

    def __init__(self, state: PartitionState, partition: int, segment_ms: Mapping[str, int], keyring: KeyRing) -> None:
        self._state = state
        self._partition = partition
        self._segment_ms = segment_ms
        self._keyring = keyring
        self._expiring: list[tuple[int, bytes]] = []
        """A heap of (Unix milliseconds, key on the signatures topic), without duplicates."""
        self._scheduled: set[tuple[int, bytes]] = set()
        for key, value in state.records.items():
            self._schedule_expiry(key, value)
        self._scheduled_changes = ScheduledChanges(state, partition)
        self._to_reencrypt = [key for key, value in state.signatures.items() if not keyring.is_newest(value)]
        if self._to_reencrypt:
            count = len(self._to_reencrypt)
            log.info("secrets are reencrypted", partition=partition, count=count, key_encryption_key=keyring.newest)

    def committed(self, records: Iterable[OutgoingRecord], now: int) -> None:
        """Follows a committed transaction; ``now`` is the timestamp of its records."""
        for record in records:
            tail = self._state.tails.get(record.topic)
            if tail is not None:
                tail.record_append(now, leaves_old_value=record.value is None and record.key != ROLL_KEY)
                if record.value is not None and record.topic == topics.CHANNEL_STATE.name:
                    self._schedule_expiry(record.key or b"", record.value)
                    self._scheduled_changes.follow(record.key or b"", record.value)

    def due(self, now: int) -> list[OutgoingRecord]:
        """The records to append now, usually none: for expired and reencrypted secrets, rolls, scheduled changes."""
        expired = [
            OutgoingRecord(topics.SIGNATURES.name, self._partition, key, None) for key in self._expired_keys(now)
        ]
        rolls = [
            OutgoingRecord(topic, self._partition, ROLL_KEY, None)
            for topic, tail in self._state.tails.items()
            if tail.needs_roll(now, self._segment_ms[topic])
        ]
        window = (
            OutgoingRecord(topics.CHANNEL_STATE.name, self._partition, key, value)
            for key, value in self._state.idempotency_window.due(now).items()
        )
        return [*expired, *self._reencrypted(), *window, *rolls, *self._scheduled_changes.due(now)]

    def done(self, records: list[OutgoingRecord], now: int) -> None:
        """Follows the committed records that `due` returned."""
        self.committed(records, now)
        self._state.idempotency_window.done(
            {key: record.value for record in records if (key := record.key or b"").startswith(CHUNK_KEY_PREFIX)}
        )
        for record in records:
            if record.topic == topics.SIGNATURES.name and record.key not in (None, ROLL_KEY):
                self._state.tails[record.topic].record_append(now, leaves_old_value=True)
                put(self._state.signatures, record.key, record.value)

    def _expired_keys(self, now: int) -> Iterator[bytes]:
        for _ in range(_SECRETS_PER_TRANSACTION):
            if not self._expiring or self._expiring[0][0] + EXPIRY_MARGIN_MS > now:
                return
            expired = heapq.heappop(self._expiring)
            self._scheduled.discard(expired)
            if expired[1] in self._state.signatures:
                yield expired[1]

    def _reencrypted(self) -> Iterator[OutgoingRecord]:
        for _ in range(min(_SECRETS_PER_TRANSACTION, len(self._to_reencrypt))):
            key = self._to_reencrypt.pop()
            value = self._state.signatures.get(key)
            if value is None:
                continue
            address = SignatureAddress.from_record_key(key)
            try:
                secret = self._keyring.decrypt(value, address)
            except VaultError as error:
                log.error("secret cannot be reencrypted", partition=self._partition, reason=str(error))
                continue
            reencrypted = self._keyring.encrypt(secret, address)
            yield OutgoingRecord(topics.SIGNATURES.name, self._partition, key, reencrypted)

    def _schedule_expiry(self, key: bytes, value: bytes) -> None:
        # The pattern only saves decoding: a match may also be in an intent's data.
        if b"/" not in key or not _MAY_EXPIRE.search(value):
            return
        channel, system = key.decode().split("/")
        try:
            signatures = BUSINESS_SYSTEM.decode(value).signatures
        except ValueError:  # one bad record must not stop the partition; the commands of its system fail
            log.error("state record cannot be read; `switchboard state rebuild` corrects it", record=key.decode())
            return
        for signature in signatures:
            if signature.valid_until is not None:
                address = SignatureAddress(channel, system, signature.key_id)
                expiry = (signature.valid_until, address.record_key())
                if expiry not in self._scheduled:
                    self._scheduled.add(expiry)
                    heapq.heappush(self._expiring, expiry)
