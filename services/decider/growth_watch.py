"""An owner's knowledge of the number of partitions. Nobody decides while it grows."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog

from contracts.kafka.partition_growth import read_partitions
from services.decider import metrics
from services.decider.config import DeciderConfig, KafkaConfig

log = structlog.stdlib.get_logger(__name__)

_INTERVAL_S = 0.2


class GrowthWatch:
    """``config`` has the partitions as they were read last."""

    def __init__(self, kafka: KafkaConfig, config: DeciderConfig) -> None:
        self.config = config
        self._kafka = kafka
        self._without_growth = config.partitions

    async def until_finished(self) -> None:
        """Returns when no growth is unfinished. Raises KafkaError."""
        logged = False
        await self.is_unchanged()
        while (growth := self.config.growth.unfinished) is not None:
            if not logged:
                reason = f"the partitions grow from {growth.before} to {growth.to}"
                hint = f"if that was interrupted, `switchboard topics grow --partitions {growth.to}` goes on"
                log.warning("waiting", partition=self.config.partition, reason=reason, hint=hint)
            logged = True
            await asyncio.sleep(_INTERVAL_S)
            await self.is_unchanged()

    async def is_unchanged(self) -> bool:
        """Reads the growths; whether they are what they were. Raises KafkaError."""
        growth = await read_partitions(bootstrap_servers=self._kafka.bootstrap_servers, **self._kafka.security)
        before, count = self.config.growth, growth.count(self._without_growth)
        self.config = replace(self.config, growth=growth, partitions=count)
        metrics.PARTITIONS.set(count)
        return growth == before
