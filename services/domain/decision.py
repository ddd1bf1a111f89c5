"""The input and the result of a decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from contracts.message_types import Event
from services.domain.json_schema import CheckData, check_data
from services.domain.url_policy import Allowlist


class Context(NamedTuple):
    """Time, identity and randomness come in as data.

    ``now`` is Unix milliseconds and never before the channel's last event; ``secret`` is 32 fresh random bytes.
    ``check_data`` finds whether data satisfies a schema: here and now, unless the service has found it before.
    ``actor`` is None where the command names none; ``owner`` is the person that it belongs to, where it is a key.
    """

    channel: str
    account: str
    now: int
    secret: bytes
    allowlist: Allowlist
    check_data: CheckData = check_data
    actor: str | None = None
    owner: str | None = None

    @property
    def person(self) -> str | None:
        """Who acts: keys of one owner are one person."""
        return self.owner or self.actor


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A newly issued secret, to be encrypted on the signatures topic."""

    system: str
    key_id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"NewSecret({self.system!r}, {self.key_id!r})"


@dataclass(frozen=True, slots=True)
class DeletedSecret:
    system: str
    key_id: str


@dataclass(frozen=True, slots=True)
class SealRequest:
    """A secret that the outcome is to contain, sealed to the requester."""

    system: str
    key_id: str
    seal_to: str


class Decision(NamedTuple):
    """An accepted command: its events, and the changes of secrets in the same transaction.

    ``notices`` are sentences about what the sender may not expect of it.
    """

    events: tuple[Event, ...] = ()
    new_secret: NewSecret | None = None
    deleted_secrets: tuple[DeletedSecret, ...] = ()
    seal_request: SealRequest | None = None
    notices: tuple[str, ...] = ()


NOTHING_CHANGES = Decision()


class Difference(NamedTuple):
    """What a decision would change: resource/field -> value, as in the history. What does not exist is left out."""

    before: dict[str, Any]
    after: dict[str, Any]


class EventMetadata(NamedTuple):
    """An event's version (sequence in its channel), time (Unix milliseconds), and ``head`` (SHA-256 of its bytes)."""

    version: int
    time: int
    head: str
