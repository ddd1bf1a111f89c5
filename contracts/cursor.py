"""Following the changes of settings: the cursor to resume from, the filter of changes, and the errors."""

from __future__ import annotations

import base64
import re
import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from .ids import is_id
from .resources import on_same_path
from .settings import RESOURCE_FORMS, is_resource

_NOT_KNOWN = "x"
_FORM = re.compile(r"c2\.(?P<checksum>[0-9a-f]{8})\.(?P<rest>(?P<deployment>[A-Za-z0-9_-]*)\.(?P<positions>[0-9x_-]*))")
"""Short, because every event carries one, which may hold the positions of 48 partitions."""

MAX_CURSOR_LENGTH = 64 * 1024
_TRACKED_CHANNELS = 100_000


class InvalidCursor(Exception):
    """The text is not a cursor, or belongs to another deployment, or names a position that the log does not have."""


class SequenceGap(Exception):
    """An event of the log is missing or repeated. The message names its position."""


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a partition: the offset to read next, and the ``partitionsequence`` of the last event before it.

    ``sequence`` is None where that number is unknown.
    """

    offset: int
    sequence: int | None = None
    text: str = field(init=False, repr=False, compare=False)
    """The position as cursors encode it. Stored, because every cursor until the partition's next event repeats it."""

    def __post_init__(self) -> None:
        text = str(self.offset) if self.sequence is None else f"{self.offset}-{self.sequence}"
        object.__setattr__(self, "text", text)

    @classmethod
    def at(cls, offset: int) -> Self:
        """The sequence before an offset is known only at the beginning of the log."""
        return cls(offset, 0 if offset == 0 else None)


FIRST_POSITION = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in every partition, by its number, and the Kafka cluster id that they belong to.

    The position is None for a partition that another member of the group reads. Partitions that were added since are
    read from their beginning.
    """

    deployment: str
    positions: tuple[Position | None, ...]

    def extended(self, partitions: int) -> Self:
        """The same place in a log of at least so many partitions."""
        if len(self.positions) >= partitions:
            return self
        added = (FIRST_POSITION,) * (partitions - len(self.positions))
        return type(self)(self.deployment, (*self.positions, *added))

    def __str__(self) -> str:
        """An opaque text of letters, digits and ``. _ -``, safe in headers and URLs."""
        positions = "_".join([position.text if position else _NOT_KNOWN for position in self.positions])
        rest = f"{_encode(self.deployment)}.{positions}"
        return f"c2.{zlib.crc32(rest.encode()):08x}.{rest}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `InvalidCursor`."""
        form = _FORM.fullmatch(text) if len(text) <= MAX_CURSOR_LENGTH else None
        try:
            if form is None or zlib.crc32(form["rest"].encode()) != int(form["checksum"], 16):
                raise ValueError("not a cursor")
            positions = [
                None if one == _NOT_KNOWN else _parse_position(one)
                for one in form["positions"].split("_")
                if form["positions"]
            ]
            return cls(_decode(form["deployment"]), tuple(positions))
        except ValueError:
            sentence = "This is not a cursor: give one exactly as a change or a response carried it."
            raise InvalidCursor(sentence) from None

    def require(self, deployment: str, counts: Collection[int], *, whole: bool = True) -> Self:
        """Returns the cursor, extended, if it belongs to this deployment and, with ``whole``, has all positions.

        ``counts`` are the numbers of partitions that the log has had. Raises `InvalidCursor`.
        """
        if self.deployment != deployment or len(self.positions) not in counts:
            raise InvalidCursor(
                "This cursor comes from another deployment, which has another log. "
                "Read the settings again, and resume from the cursor in the response."
            )
        if whole and None in self.positions:
            raise InvalidCursor(
                "This cursor comes from a member of a group; it lacks the partitions of the other members."
            )
        return self.extended(max(counts))


@lru_cache(16)
def _encode(deployment: str) -> str:
    return base64.urlsafe_b64encode(deployment.encode()).rstrip(b"=").decode()


def _decode(text: str) -> str:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()


def _parse_position(text: str) -> Position:
    offset, dash, sequence = text.partition("-")
    return Position(_count(offset), _count(sequence) if dash else None)


def _count(text: str) -> int:
    """The number in a text of digits. Raises ValueError from 2**63 on."""
    if (number := int(text)) >= 2**63:
        raise ValueError("too large")
    return number


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which changes to deliver. An empty set, or None, selects all.

    A resource also selects the resources below and above it on its path: a subscriber of an intent learns that its
    business system was deleted.
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
        """A single string counts as a collection of one. Raises ValueError on an invalid id or resource."""
        channels, types, resources = ({one} if isinstance(one, str) else one for one in (channels, types, resources))
        channels = frozenset(channels)
        for name in (*channels, *([] if account is None else [account])):
            if not is_id(name):
                raise ValueError("an account or channel id is 1 to 128 characters of A-Z a-z 0-9 . _ : -")
        resources = tuple(resources)
        if not all(map(is_resource, resources)):
            raise ValueError(f"a resource is one of {', '.join(RESOURCE_FORMS)}")
        return cls(account, channels, frozenset(types), resources)

    def fits(self, account: str, channel: str, kind: str, resource: str) -> bool:
        return (
            self.account in (None, account)
            and (not self.channels or channel in self.channels)
            and (not self.types or kind in self.types)
            and (not self.resources or any(on_same_path(one, resource) for one in self.resources))
        )


class PositionTracker:
    """The reader's position in every partition; finds gaps."""

    def __init__(self, deployment: str, positions: Sequence[Position | None]) -> None:
        self.deployment = deployment
        self._positions = list(positions)

    def __len__(self) -> int:
        return len(self._positions)

    def extend(self, partitions: int, position: Position | None) -> None:
        """Adds partitions until there are so many."""
        self._positions += [position] * (partitions - len(self._positions))

    def next_offset(self, partition: int) -> int:
        """The offset to read next; 0 where that is not known."""
        position = self._positions[partition] if partition < len(self) else None
        return 0 if position is None else position.offset

    def __getitem__(self, partition: int) -> Position | None:
        return self._positions[partition]

    def __setitem__(self, partition: int, position: Position | None) -> None:
        self._positions[partition] = position

    def has_passed(self, partition: int, offset: int) -> bool:
        position = self._positions[partition]
        return position is not None and offset < position.offset

    def pass_event(self, partition: int, offset: int, sequence: int) -> None:
        """Raises `SequenceGap` where the event is not the next one of its partition."""
        position = self._positions[partition]
        if position is not None and position.sequence is not None and sequence != position.sequence + 1:
            raise SequenceGap(
                f"Event {position.sequence + 1} of partition {partition} should come next, but {sequence} came, "
                f"at offset {offset}. Read the settings again, and resume from the cursor in the response."
            )
        self._positions[partition] = Position(offset + 1, sequence)

    def cursor(self) -> Cursor:
        return Cursor(self.deployment, tuple(self._positions))


class ChannelVersions:
    """The version of the channels that changed last; finds gaps that the positions do not show."""

    def __init__(self) -> None:
        self._versions: OrderedDict[str, int] = OrderedDict()

    def pass_event(self, channel: str, version: int) -> None:
        """Raises `SequenceGap` where the event is not the next one of its channel."""
        before = self._versions.pop(channel, None)
        if before is not None and version != before + 1:
            raise SequenceGap(f"Event {before + 1} of channel {channel!r} should come next, but {version} came.")
        self._versions[channel] = version
        if len(self._versions) > _TRACKED_CHANNELS:
            self._versions.popitem(last=False)

    def clear(self) -> None:
        self._versions.clear()
