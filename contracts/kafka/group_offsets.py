"""A position in a consumer group: the committed offset, with the event's number as its metadata."""

from __future__ import annotations

from aiokafka import OffsetAndMetadata

from ..cursor import Position


def to_offset(position: Position) -> OffsetAndMetadata:
    return OffsetAndMetadata(position.offset, "" if position.sequence is None else str(position.sequence))


def position_from(committed: OffsetAndMetadata | None) -> Position | None:
    """None where the group has committed nothing. Metadata that another program wrote is ignored."""
    if committed is None or committed.offset < 0:
        return None
    text = committed.metadata
    return Position(committed.offset, int(text) if text and text.isascii() and text.isdigit() else None)
