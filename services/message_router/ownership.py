"""Which partitions this process reads: it does their other work too."""

from __future__ import annotations

from collections.abc import Callable, Collection

NAME = "switchboard.message-router"
"""The consumer group, and the name of its checkpoints."""
OVERDUE_MS = 500
"""Work of a partition that waits longer is done by every router: its owner may be gone, and the group not know yet."""

OnCommitted = Callable[[Collection[int]], None]
"""Called after a transaction with its partitions: they may have new records for Kafka, waiting requests, timers."""


class Ownership:
    """The partitions of `switchboard.message-requests` that are assigned to this process."""

    def __init__(self, partitions: frozenset[int] = frozenset()) -> None:
        self.partitions = partitions
