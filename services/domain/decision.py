"""What goes into a decision, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from contracts.commands import Event
from services.domain.address import Allowances


class Context(NamedTuple):
    """Time, identity and randomness come in as data.

    ``now`` is Unix milliseconds and never before the channel's last event; ``secret`` is 32 fresh random bytes.
    """

    channel: str
    account: str
    now: int
    secret: bytes
    allowances: Allowances


@dataclass(frozen=True, slots=True)
class KeptSecret:
    """A newly drawn secret, to be encrypted onto the signatures topic."""

    system: str
    key_id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"KeptSecret({self.system!r}, {self.key_id!r})"


@dataclass(frozen=True, slots=True)
class DeletedSecret:
    system: str
    key_id: str


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A secret that the outcome carries, sealed to whoever asked."""

    system: str
    key_id: str
    seal_to: str


class Decision(NamedTuple):
    """An accepted command: its events, and what happens to secrets in the same transaction."""

    events: tuple[Event, ...] = ()
    kept: KeptSecret | None = None
    deleted: tuple[DeletedSecret, ...] = ()
    sealed: SealedSecret | None = None


NOTHING_CHANGES = Decision()


class Mark(NamedTuple):
    """What an event's place in the channel's history says: its version, its time, and the hash of its bytes."""

    version: int
    time: int
    head: str
