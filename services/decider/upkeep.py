"""What secrets need besides commands: tombstones when they expire, the newest key, and rolls that let Kafka compact.

Kafka compacts only closed segments, and closes one only on an append that comes ``segment.ms`` after its first record.
On an idle partition a deleted secret would stay on the disk for as long as nothing is appended. So once the segment
time has passed since the last tombstone, and nothing was appended since, one record goes out that does nothing else:
a tombstone of a key of ours, which every reader of a compacted topic takes for the deletion of what it never had.

Once the key ring has a newer key, every secret is encrypted anew with it, so that the older one can be taken off the
ring; what it encrypted leaves the disk as a deleted secret does.
"""

from __future__ import annotations

import heapq
import logging
import re
from collections.abc import Iterable, Iterator, Mapping

from contracts import topics
from services.decider.partition_state import PartitionState, put
from services.domain.records import BUSINESS_SYSTEM
from services.infrastructure.transactions import OutgoingRecord
from services.infrastructure.vault import KeyRing, SignatureAddress, VaultError

log = logging.getLogger(__name__)

ROLL_KEY = b"~roll"
EXPIRY_MARGIN_MS = 5_000
"""A secret outlives its grace period by so much, for clocks that differ."""

SEGMENT_MS = {topic.name: int(topic.settings["segment.ms"]) for topic in (topics.CHANNEL_STATE, topics.SIGNATURES)}
"""How long a segment of the compacted topics stays open, as we make them."""

_AT_ONCE = 500
"""So many expired, and so many newly encrypted secrets go into one transaction."""
_MAY_EXPIRE = re.compile(rb'"valid_until":[0-9]')


class Upkeep:
    """Follows what is committed on one partition, and says what else is to be appended, and when."""

    def __init__(self, state: PartitionState, partition: int, segment_ms: Mapping[str, int], keyring: KeyRing) -> None:
        self._state = state
        self._partition = partition
        self._segment_ms = segment_ms
        self._keyring = keyring
        self._expiring: list[tuple[int, bytes]] = []
        """A heap of (Unix milliseconds, key on the signatures topic); each of them once."""
        self._awaited: set[tuple[int, bytes]] = set()
        for key, value in state.records.items():
            self._look_for_expiry(key, value)
        self._under_older_keys = [key for key, value in state.signatures.items() if not keyring.is_newest(value)]
        if self._under_older_keys:
            secrets = f"{len(self._under_older_keys):,} secrets"
            log.info("partition %d: %s are encrypted anew with key %s", partition, secrets, keyring.newest)

    def committed(self, records: Iterable[OutgoingRecord], now: int) -> None:
        """Takes note of a transaction; ``now`` is the timestamp of its records."""
        for record in records:
            tail = self._state.tails.get(record.topic)
            if tail is not None:
                tail.appended(now, leaves_old_value=record.value is None and record.key != ROLL_KEY)
                if record.value is not None and record.topic == topics.CHANNEL_STATE.name:
                    self._look_for_expiry(record.key or b"", record.value)

    def due(self, now: int) -> list[OutgoingRecord]:
        """Tombstones of expired secrets, newly encrypted ones, and rolls, to be appended now; mostly none."""
        expired = [
            OutgoingRecord(topics.SIGNATURES.name, self._partition, key, None) for key in self._expired_keys(now)
        ]
        rolls = [
            OutgoingRecord(topic, self._partition, ROLL_KEY, None)
            for topic, tail in self._state.tails.items()
            if tail.needs_roll(now, self._segment_ms[topic])
        ]
        return [*expired, *self._encrypted_anew(), *rolls]

    def done(self, records: list[OutgoingRecord], now: int) -> None:
        """Takes over what `due` said, once it is committed."""
        self.committed(records, now)
        for record in records:
            if record.topic == topics.SIGNATURES.name and record.key not in (None, ROLL_KEY):
                self._state.tails[record.topic].appended(now, leaves_old_value=True)
                put(self._state.signatures, record.key, record.value)

    def _expired_keys(self, now: int) -> Iterator[bytes]:
        for _ in range(_AT_ONCE):
            if not self._expiring or self._expiring[0][0] + EXPIRY_MARGIN_MS > now:
                return
            expired = heapq.heappop(self._expiring)
            self._awaited.discard(expired)
            if expired[1] in self._state.signatures:
                yield expired[1]

    def _encrypted_anew(self) -> Iterator[OutgoingRecord]:
        for _ in range(min(_AT_ONCE, len(self._under_older_keys))):
            key = self._under_older_keys.pop()
            value = self._state.signatures.get(key)
            if value is None:
                continue
            address = SignatureAddress.from_record_key(key)
            try:
                secret = self._keyring.decrypt(value, address)
            except VaultError as error:
                log.error("%s", error)
                continue
            anew = self._keyring.encrypt(secret, address)
            yield OutgoingRecord(topics.SIGNATURES.name, self._partition, key, anew)

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
                expiry = (signature.valid_until, address.record_key())
                if expiry not in self._awaited:
                    self._awaited.add(expiry)
                    heapq.heappush(self._expiring, expiry)
