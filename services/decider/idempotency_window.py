"""The idempotency window: which command ids were used, for each account, within at least the last 24 hours.

In memory are a hash of each id and the offset of its first outcome. The outcome itself is read again from
`switchboard.outcomes` where its command is repeated. So one account's flood takes no id out of another's window, and an
id costs about 120 bytes.

A restore must stay short, however many outcomes there are that need not be remembered. So ids are stored in chunks on
`switchboard.channel-state`, and only the outcomes after the last chunk are read again.

Where the number of partitions grew, a new partition inherits the ids of its parent, whose outcomes stay where they are.
"""

from __future__ import annotations

import base64
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

WINDOW_MS = 24 * 60 * 60 * 1000
COMMANDS_PER_ACCOUNT = 100_000
"""As many ids of one account does a partition remember; the account's next command is refused until the oldest are 24
hours old. With 8 partitions: 800,000 commands a day, and 100 MB of the decider's memory."""

CHUNK_SIZE = 8_192
CHUNK_SPAN = 65_536
"""A chunk is stored after so many ids, or after so many outcomes if at least one has an id to remember."""

CACHE_BYTES = 2 * 1024 * 1024
CHUNK_KEY_PREFIX = b"~window-"


class RememberedOutcome(NamedTuple):
    """``data`` is the outcome's data as JSON; ``digest`` is of the command's content."""

    digest: bytes
    data: bytes


class NewOutcome(NamedTuple):
    """A first outcome of a batch: ``number`` counts the batch's outcomes from 0."""

    account: str
    number: int
    outcome: RememberedOutcome


def idempotency_key(account: str, channel: str, command_id: str) -> str:
    """Unique per command: no id contains a slash."""
    return f"{account}/{channel}/{command_id}"


def _hash(key: str) -> int:
    """64 bits: whoever reads the outcome at the offset compares the whole key."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little")


class StoredChunk(BaseModel):
    """A chunk as a record of `switchboard.channel-state`. ``entries`` are pairs of little-endian 64-bit integers, hash
    and offset, in base64; ``newest`` is the Unix milliseconds of the newest. ``partition`` has the
    outcomes; None is the partition itself."""

    model_config = ConfigDict(frozen=True)

    v: int = 1
    partition: int | None = None
    newest: int
    accounts: dict[str, int]
    entries: str


class Position(NamedTuple):
    """Where an outcome is; the ``partition`` is None where it is the window's own."""

    partition: int | None
    offset: int


@dataclass(slots=True)
class _Chunk:
    partition: int | None
    newest: int
    accounts: Mapping[str, int]
    hashes: array[int]
    last_offset: int


class _Pending(NamedTuple):
    """An id that is in no chunk yet."""

    hash: int
    offset: int
    account: str
    time: int


@dataclass(slots=True)
class IdempotencyWindow:
    """Changes only with committed transactions. Times are Unix milliseconds."""

    _offsets: dict[int, int] = field(default_factory=dict)
    _inherited: dict[int, Position] = field(default_factory=dict)
    _per_account: Counter[str] = field(default_factory=Counter)
    _chunks: dict[int, _Chunk] = field(default_factory=dict)
    """By number, the oldest first."""
    _pending: list[_Pending] = field(default_factory=list)
    _cache: OrderedDict[str, RememberedOutcome] = field(default_factory=OrderedDict)
    _cached_bytes: int = 0
    _next_offset: int = 0

    def __len__(self) -> int:
        return len(self._offsets) + len(self._inherited)

    @property
    def restorable_from(self) -> int:
        """The offset in `switchboard.outcomes` from which a restore reads, besides the chunks."""
        return self._pending[0].offset if self._pending else self._next_offset

    def position_of(self, key: str) -> Position | None:
        """Of the id's first outcome, or of an outcome after it if that offset is another id's."""
        if (offset := self._offsets.get(_hash(key))) is not None:
            return Position(None, offset)
        return self._inherited.get(_hash(key))

    def cached(self, key: str) -> RememberedOutcome | None:
        return self._cache.get(key)

    @property
    def per_account(self) -> Mapping[str, int]:
        return self._per_account

    def used_by(self, account: str) -> int:
        """The number of the account's ids in the window."""
        return self._per_account.get(account, 0)

    def adopt(self, first_offset: int, count: int, outcomes: Mapping[str, NewOutcome], now: int) -> None:
        """Adds a committed transaction of ``count`` outcomes, the first of them at ``first_offset``."""
        if count:
            self._next_offset = first_offset + count
        for key, (account, number, outcome) in outcomes.items():
            self._remember(_Pending(_hash(key), first_offset + number, account, now))
            self._cache_outcome(key, outcome)

    def restore_outcome(self, key: str, account: str, offset: int, time: int) -> None:
        """Adds an outcome that is read again; one that is known already changes nothing."""
        self._next_offset = max(self._next_offset, offset + 1)
        if _hash(key) not in self._offsets:
            self._remember(_Pending(_hash(key), offset, account, time))

    def _remember(self, entry: _Pending) -> None:
        self._offsets[entry.hash] = entry.offset
        self._per_account[entry.account] += 1
        self._pending.append(entry)

    def _cache_outcome(self, key: str, outcome: RememberedOutcome) -> None:
        self._cache[key] = outcome
        self._cached_bytes += len(outcome.data)
        while self._cached_bytes > CACHE_BYTES:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= len(dropped.data)

    def due(self, now: int) -> dict[bytes, bytes | None]:
        """The records of `switchboard.channel-state` that are to be written now: a chunk, and expired chunks' deletion.
        Usually none."""
        records: dict[bytes, bytes | None] = {
            _chunk_key(number): None for number, chunk in self._chunks.items() if chunk.newest + WINDOW_MS <= now
        }
        if self._pending and (
            len(self._pending) >= CHUNK_SIZE or self._next_offset - self._pending[0].offset >= CHUNK_SPAN
        ):
            records[_chunk_key(max(self._chunks, default=0) + 1)] = _record(self._pending_chunk())
        return records

    def _pending_chunk(self) -> StoredChunk:
        return _stored(
            None,
            max(entry.time for entry in self._pending),
            Counter(entry.account for entry in self._pending),
            ((entry.hash, entry.offset) for entry in self._pending),
        )

    def inheritance(self, partition: int) -> dict[bytes, bytes]:
        """The records of `switchboard.channel-state` with which a new partition knows every id that this one knows;
        this is ``partition``."""
        chunks = [self._inherited_chunk(chunk, partition) for _, chunk in sorted(self._chunks.items())]
        if self._pending:
            chunks.append(self._pending_chunk().model_copy(update={"partition": partition}))
        return {_chunk_key(number): _record(chunk) for number, chunk in enumerate(chunks, 1)}

    def _inherited_chunk(self, chunk: _Chunk, partition: int) -> StoredChunk:
        if chunk.partition is None:
            entries = ((number, self._offsets[number]) for number in chunk.hashes if number in self._offsets)
            return _stored(partition, chunk.newest, chunk.accounts, entries)
        places = ((number, self._inherited[number].offset) for number in chunk.hashes if number in self._inherited)
        return _stored(chunk.partition, chunk.newest, chunk.accounts, places)

    def done(self, records: Mapping[bytes, bytes | None]) -> None:
        """Follows the committed records that `due` returned."""
        for key, value in records.items():
            if value is None:
                self._forget(self._chunks.pop(_chunk_number(key)))
            else:
                self._add_chunk(key, StoredChunk.model_validate_json(value))
                self._pending.clear()

    def restore_chunks(self, records: Mapping[bytes, bytes]) -> None:
        """Adds the chunks among the records of `switchboard.channel-state`, in any order."""
        for key in sorted((key for key in records if key.startswith(CHUNK_KEY_PREFIX)), key=_chunk_number):
            stored = StoredChunk.model_validate_json(records[key])
            chunk = self._add_chunk(key, stored)
            offsets = _entries(stored)[1::2]
            self._per_account.update(stored.accounts)
            if stored.partition is not None:
                places = (Position(stored.partition, offset) for offset in offsets)
                self._inherited.update(zip(chunk.hashes, places, strict=True))
                continue
            self._offsets.update(zip(chunk.hashes, offsets, strict=True))
            self._next_offset = max(self._next_offset, chunk.last_offset + 1)

    def _add_chunk(self, key: bytes, stored: StoredChunk) -> _Chunk:
        entries = _entries(stored)
        chunk = _Chunk(stored.partition, stored.newest, stored.accounts, entries[0::2], max(entries[1::2], default=0))
        self._chunks[_chunk_number(key)] = chunk
        return chunk

    def _forget(self, chunk: _Chunk) -> None:
        for number in chunk.hashes:
            if chunk.partition is not None:
                self._inherited.pop(number, None)
            elif self._offsets.get(number, chunk.last_offset + 1) <= chunk.last_offset:
                del self._offsets[number]
        self._per_account.subtract(chunk.accounts)
        self._per_account += Counter()  # drops the accounts that are at 0


def _stored(
    partition: int | None, newest: int, accounts: Mapping[str, int], entries: Iterable[tuple[int, int]]
) -> StoredChunk:
    numbers = array("Q", (number for entry in entries for number in entry))
    return StoredChunk(
        partition=partition,
        newest=newest,
        accounts=dict(accounts),
        entries=base64.b64encode(numbers.tobytes()).decode(),
    )


def _record(chunk: StoredChunk) -> bytes:
    return chunk.model_dump_json(exclude_none=True).encode()


def _entries(stored: StoredChunk) -> array[int]:
    return array("Q", base64.b64decode(stored.entries))


def _chunk_key(number: int) -> bytes:
    return CHUNK_KEY_PREFIX + b"%d" % number


def _chunk_number(key: bytes) -> int:
    return int(key.removeprefix(CHUNK_KEY_PREFIX))


def chunk_keys(keys: Iterable[bytes]) -> list[bytes]:
    """Those of the keys that are a chunk's."""
    return [key for key in keys if key.startswith(CHUNK_KEY_PREFIX)]
