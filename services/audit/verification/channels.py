"""The channels of the partitions that are verified."""

from __future__ import annotations

from services.audit.log.recorded_event import FoldedChannels
from services.audit.verification.finding import ChainHead


class Channels:
    """What was read of the channels of some partitions: of one, or of all that channels have moved between."""

    def __init__(self) -> None:
        self.chains: dict[str, ChainHead] = {}
        self.folds = FoldedChannels()
        self.unfolded: set[str] = set()
