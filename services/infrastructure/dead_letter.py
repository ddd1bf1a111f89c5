"""Dead letters: records that cannot be answered, published unchanged to `switchboard.dead-letters`."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from contracts.topics import DEAD_LETTERS, LARGEST_RECORD_BYTES

DEAD_LETTER_BYTES_LIMIT = int(DEAD_LETTERS.settings["max.message.bytes"])
"""The largest record that the dead-letter topic takes; a producer of dead letters must allow it."""


class UnusableRecord(Protocol):
    """What a dead letter takes from the record that it is about."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class DeadLetter(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]


def dead_letter(record: UnusableRecord, topic: str, partition: int, reason: str) -> DeadLetter:
    """The record with its key and value unchanged, and headers that say where it came from and why it is here.

    The dead-letter topic has 64 KiB of room for the headers. A record that is still too large for it goes without its
    value; the header ``omitted`` then has the value's size in bytes.
    """
    headers = {
        "reason": reason.replace("\n", " ").replace("\x00", " "),
        "topic": topic,
        "partition": str(partition),
        "offset": str(record.offset),
    }
    value = record.value
    if len(record.key or b"") + len(value or b"") > LARGEST_RECORD_BYTES:
        headers["omitted"] = str(len(value or b""))
        value = None
    return DeadLetter(record.key, value, headers)
