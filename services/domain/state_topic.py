"""The keys of `switchboard.channel-state`: channels, business systems, and the partition's checkpoint."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

RESERVED_PREFIX = b"~"
"""Begins the keys of records that belong to no channel; no id starts with it."""

CHECKPOINT_KEY = b"~checkpoint"


class Checkpoint(BaseModel):
    """How far a partition is decided. It is committed with each batch, and nothing else says so.

    ``next_offset`` is the offset of the next command, ``partitionsequence`` the number of the last event, and
    ``outcomes_from`` the offset in `switchboard.outcomes` from which the idempotency window is restored. ``reading`` is
    the older partition whose commands come first, where the number of partitions grew; None is the partition itself.
    """

    model_config = ConfigDict(frozen=True)

    v: int = 1
    next_offset: int = 0
    partitionsequence: int = 0
    outcomes_from: int = 0
    reading: int | None = None


def channel_key(channel: str) -> bytes:
    return channel.encode()


def system_key(channel: str, system: str) -> bytes:
    """Unique among state records: no id contains a slash."""
    return f"{channel}/{system}".encode()
