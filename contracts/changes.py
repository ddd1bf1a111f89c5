"""Following the changes of settings: the cursor to go on from, which changes are wanted, and what can go wrong."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from .ids import is_name

_NOT_KNOWN = "x"
_FORM = re.compile(r"c2\.(?P<checksum>[0-9a-f]{8})\.(?P<rest>(?P<deployment>[A-Za-z0-9_-]*)\.(?P<places>[0-9x_-]*))")
"""Short, as it goes with every event and may hold the places of 48 partitions."""

LONGEST_CURSOR = 64 * 1024


class CursorRefused(Exception):
    """The text is no cursor, or none of this deployment, or leads to no place in the log; the sentence says which."""


class GapInChanges(Exception):
    """The log does not go on where it should: an event is missing, or came twice. The sentence names the place."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to go on in a partition: the offset to read next, and the ``partitionsequence`` of the last event before
    it; None where nobody knows that number."""

    offset: int
    sequence: int | None = None
    text: str = field(init=False, repr=False, compare=False)
    """As cursors have it. A place is part of very many: of each until its partition goes on."""

    def __post_init__(self) -> None:
        text = str(self.offset) if self.sequence is None else f"{self.offset}-{self.sequence}"
        object.__setattr__(self, "text", text)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in every partition, by its number, and the Kafka cluster id that they belong to.

    A partition of which nothing is known (a group's other members have it) has None.
    """

    deployment: str
    places: tuple[Place | None, ...]

    def __str__(self) -> str:
        """One opaque line of letters, digits and ``. _ -``, fit for a header and a URL."""
        places = "_".join([place.text if place else _NOT_KNOWN for place in self.places])
        rest = f"{_spelt(self.deployment)}.{places}"
        return f"c2.{zlib.crc32(rest.encode()):08x}.{rest}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `CursorRefused`."""
        form = _FORM.fullmatch(text) if len(text) <= LONGEST_CURSOR else None
        try:
            if form is None or zlib.crc32(form["rest"].encode()) != int(form["checksum"], 16):
                raise ValueError("no cursor")
            places = [None if one == _NOT_KNOWN else _place(one) for one in form["places"].split("_") if form["places"]]
            return cls(_unspelt(form["deployment"]), tuple(places))
        except ValueError:
            sentence = "This is no cursor: give one exactly as a change or an answer carried it."
            raise CursorRefused(sentence) from None

    def require(self, deployment: str, partitions: int, *, whole: bool = True) -> Self:
        """Itself, where it belongs to this deployment, and, ``whole``, says all. Raises `CursorRefused`."""
        if self.deployment != deployment or len(self.places) != partitions:
            raise CursorRefused(
                "This cursor comes from another deployment, whose log is not this one's. "
                "Read the settings anew, and go on from the cursor that their answer carries."
            )
        if whole and None in self.places:
            raise CursorRefused("This cursor is of a member of a group; it lacks the others' partitions.")
        return self


@lru_cache(16)
def _spelt(deployment: str) -> str:
    return base64.urlsafe_b64encode(deployment.encode()).rstrip(b"=").decode()


def _unspelt(text: str) -> str:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()


def _place(text: str) -> Place:
    offset, dash, sequence = text.partition("-")
    return Place(_count(offset), _count(sequence) if dash else None)


def _count(text: str) -> int:
    """Of what the cursor's form lets through: digits alone."""
    if (number := int(text)) >= 2**63:
        raise ValueError("no count")
    return number


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which changes are wanted; an empty set, or None, wants all.

    A resource stands for itself and for what lies below or above it on its path: who follows an intent learns that
    its business system was deleted.
    """

    account: str | None = None
    channels: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    resources: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        account: str | None = None,
        channels: Iterable[str] = (),
        types: Iterable[str] = (),
        resources: Iterable[str] = (),
    ) -> Self:
        """A text alone is one of its kind. Raises ValueError on ids that cannot be."""
        channels, types, resources = ({one} if isinstance(one, str) else one for one in (channels, types, resources))
        channels = frozenset(channels)
        for name in (*channels, *([] if account is None else [account])):
            if not is_name(name):
                raise ValueError("an account or channel id is 1 to 128 characters of A-Z a-z 0-9 . _ : -")
        return cls(account, channels, frozenset(types), tuple(resources))

    def fits(self, account: str, channel: str, kind: str, resource: str) -> bool:
        return (
            self.account in (None, account)
            and (not self.channels or channel in self.channels)
            and (not self.types or kind in self.types)
            and (not self.resources or any(_same_path(one, resource) for one in self.resources))
        )


def _same_path(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


class Places:
    """How far a reader is in every partition, and that it misses nothing on the way."""

    def __init__(self, deployment: str, places: Sequence[Place | None]) -> None:
        self.deployment = deployment
        self._places = list(places)

    def __getitem__(self, partition: int) -> Place | None:
        return self._places[partition]

    def __setitem__(self, partition: int, place: Place | None) -> None:
        self._places[partition] = place

    def has_passed(self, partition: int, offset: int) -> bool:
        place = self._places[partition]
        return place is not None and offset < place.offset

    def pass_event(self, partition: int, offset: int, sequence: int) -> None:
        """Raises `GapInChanges` where the event is not the next one of its partition."""
        place = self._places[partition]
        if place is not None and place.sequence is not None and sequence != place.sequence + 1:
            raise GapInChanges(
                f"Event {place.sequence + 1} of partition {partition} should come next, but {sequence} came, at offset "
                f"{offset}. Read the settings anew, and go on from the cursor that their answer carries."
            )
        self._places[partition] = Place(offset + 1, sequence)

    def cursor(self) -> Cursor:
        return Cursor(self.deployment, tuple(self._places))
