"""Routing: a command that arrived on the wrong partition is forwarded, once, to the home partition of its channel.

Where the number of partitions grew, commands from before may be on an older partition of the channel. The owner of the
new one reads them there, up to the cut, before it reads its own. The older partition's owner forwards those that came
later, of publishers that had not heard of the growth: also where they were forwarded before, because each such hop
leads to a higher number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from contracts import topics
from contracts.partitioner import partition_of
from services.decider.config import DeciderConfig
from services.infrastructure.transactions import OutgoingRecord

FORWARDED_HEADER = "switchboard-forwarded"
"""Forbids a second hop; its value is the partition that the command first arrived on. Named after
us: a bridge from HTTP may copy a header ``forwarded`` (RFC 7239) of its own."""

_FORWARDED_BYTES_LIMIT = topics.LARGEST_RECORD_BYTES - 1024
"""Of key, value and headers, so that the record still fits with what Kafka adds. The broker decompresses what clients
publish and accepts nothing larger; a topic created with other settings may contain larger records."""

_HEADER_LENGTHS_BYTES = 8
"""The most that the two lengths in front of a header's name and value take."""


class IncomingCommand(Protocol):
    """What the decider reads of a record of `switchboard.commands`."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class NotForwarded(Exception):
    """The command can be neither decided here nor forwarded; the clause says why."""


def is_left_to_another(config: DeciderConfig, reading: int | None, channel: str, offset: int) -> bool:
    """Whether another partition's owner decides or forwards the command, so that this one passes over it.

    ``reading`` is as in `Checkpoint`. While this owner reads an older partition, it takes only its own channels'
    commands; while it reads its own, it leaves those to a newer partition that its owner reads here.
    """
    home = partition_of(channel, config.partitions)
    if reading is not None:
        return home != config.partition
    older = config.growth.ancestors(topics.COMMANDS.name, home)
    return any(parent.partition == config.partition and offset < parent.cut for parent in older)


def forward(config: DeciderConfig, channel: str, incoming: IncomingCommand) -> OutgoingRecord | None:
    """The command as a record for its home partition; None where that is this one. Raises `NotForwarded`."""
    here = config.partition
    home = partition_of(channel, config.partitions)
    if home == here:
        return None
    lived_here = any(older.partition == here for older in config.growth.ancestors(topics.COMMANDS.name, home))
    if not lived_here and any(name == FORWARDED_HEADER for name, _ in incoming.headers):
        raise NotForwarded(f"it was forwarded once already, and partition {here} is not its home")
    headers = [*incoming.headers, (FORWARDED_HEADER, str(here).encode())]
    forwarded = OutgoingRecord(topics.COMMANDS.name, home, channel.encode(), incoming.value, headers)
    if _size(forwarded) > _FORWARDED_BYTES_LIMIT:
        raise NotForwarded(f"partition {here} is not its home, and it is too large to be forwarded")
    return forwarded


def _size(record: OutgoingRecord) -> int:
    """An upper bound in bytes. The lengths count: of many small headers, they take more than the headers do."""
    headers = sum(len(name.encode()) + len(value or b"") + _HEADER_LENGTHS_BYTES for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
