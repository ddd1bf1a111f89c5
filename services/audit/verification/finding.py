"""Findings, and the head of a channel's chain that they are made from."""

from __future__ import annotations

from dataclasses import dataclass

from services.audit.log.source import LogPosition

DAMAGED = "the checksum of the records from here on is wrong: they are not as the broker wrote them"
FINDINGS_LIMIT = 100
"""So many findings of a partition are kept: what follows a broken record is often broken because of it."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A clause on what is wrong at a record."""

    position: LogPosition
    what: str
    channel: str | None = None

    def __str__(self) -> str:
        about = "" if self.channel is None else f" (channel {self.channel!r})"
        return f"{self.position}{about}: {self.what}"


@dataclass(slots=True)
class ChainHead:
    """Where a channel's chain stands: its last event."""

    account: str
    sequence: int
    digest: str
    time: int
    position: LogPosition
    doubted: LogPosition | None = None
    """The event before the last, if the last one's ``previoushash`` is not its hash: one of the two was changed."""


def numbered(what: str, first: int, last: int) -> str:
    """``events 3 to 5 are``, or ``event 3 is``."""
    return f"{what} {first} is" if first == last else f"{what}s {first} to {last} are"
