"""Where a subscriber begins in a partition."""

from __future__ import annotations

from ..cursor import Cursor, InvalidCursor, Position

BEGINNING = "beginning"
NOW = "now"


def start_position(since: str, cursor: Cursor | None, partition: int, first: int, end: int) -> Position:
    """The position in a partition whose offsets go from ``first`` to ``end``; ``cursor`` is ``since``, parsed.

    Raises `InvalidCursor`.
    """
    position: Position | None = None if cursor is None else cursor.positions[partition]
    if position is not None:
        if not first <= position.offset <= end:
            raise InvalidCursor(
                f"The log has no offset {position.offset} in partition {partition}: it goes from {first} to "
                f"{end}. Read the settings again, and resume from the cursor in the response."
            )
        return position
    return Position.at(end if since == NOW else first)
