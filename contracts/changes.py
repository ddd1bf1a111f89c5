"""Following the changes of settings: the cursor to go on from, which changes are wanted, and what can go wrong."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from pydantic_core import from_json, to_json

from .ids import is_name

_FORM = "c1."
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
        sequence = "null" if self.sequence is None else self.sequence
        object.__setattr__(self, "text", f"[{self.offset},{sequence}]")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in every partition, by its number, and the Kafka cluster id that they belong to.

    A partition of which nothing is known (a group's other members have it) has None.
    """

    deployment: str
    places: tuple[Place | None, ...]

    def __str__(self) -> str:
        """One opaque line of letters, digits and ``. _ -``, fit for a header and a URL."""
        places = ",".join([place.text if place else "null" for place in self.places])
        packed = b"[%b,[%b]]" % (to_json(self.deployment), places.encode())
        checked = zlib.crc32(packed).to_bytes(4, "big") + packed
        return _FORM + base64.urlsafe_b64encode(checked).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `CursorRefused`."""
        refused = CursorRefused("This is no cursor: give one exactly as a change or an answer carried it.")
        if not text.startswith(_FORM) or len(text) > LONGEST_CURSOR or not text.isascii():
            raise refused
        packed = text.removeprefix(_FORM)
        try:
            checked = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
            if zlib.crc32(checked[4:]) != int.from_bytes(checked[:4], "big"):
                raise refused
            deployment, flat = from_json(checked[4:])
            places = tuple(None if one is None else Place(_count(one[0]), _known(one[1])) for one in flat)
        except (binascii.Error, ValueError, TypeError, LookupError):
            raise refused from None
        return cls(str(deployment), places)

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


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("no count")
    return value


def _known(value: object) -> int | None:
    return None if value is None else _count(value)


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
