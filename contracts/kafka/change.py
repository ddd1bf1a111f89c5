"""One change of settings, as a subscriber yields it."""

from __future__ import annotations

from dataclasses import dataclass

from ..cursor import Cursor
from ..envelope import EventEnvelope
from ..message import EventData


@dataclass(frozen=True, slots=True)
class Change:
    """An event with its position. ``value`` holds its bytes as the log has them."""

    event: EventEnvelope
    value: bytes
    partition: int
    offset: int
    after: Cursor

    @property
    def body(self) -> EventData | None:
        """The event's data by its type; None where the type is newer than this program."""
        return self.event.body()

    @property
    def cursor(self) -> str:
        """Resumes after this change and everything before it."""
        return str(self.after)
