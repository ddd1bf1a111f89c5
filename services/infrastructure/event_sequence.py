"""The numbers of a partition's events: a reader of the log stops at a gap, whatever it makes of the events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from contracts.cursor import SequenceGap


class _Numbered(msgspec.Struct):
    partitionsequence: int


_read = msgspec.json.Decoder(_Numbered).decode


def take_until_gap(records: Sequence[Any], sequence: int | None) -> tuple[int, int | None, SequenceGap | None]:
    """(how many of the records follow one another, the number of the last of these, the gap after it or None).

    ``records`` are of one partition of the events. ``sequence`` is the number of the event before them; None where it
    is unknown: then the first record may have any number. A record that is no event is a gap too.
    """
    for count, record in enumerate(records):
        try:
            number = _read(record.value or b"").partitionsequence
        except msgspec.DecodeError:
            place = f"{record.topic}/{record.partition}/{record.offset}"
            return count, sequence, SequenceGap(f"The record at {place} is not an event.")
        if sequence is not None and number != sequence + 1:
            gap = SequenceGap(
                f"Event {sequence + 1} of partition {record.partition} should come next, but {number} came, "
                f"at offset {record.offset}."
            )
            return count, sequence, gap
        sequence = number
    return len(records), sequence, None
