"""What is counted in the database, on the port of the gateway's metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.infrastructure.kept_answer import KeptAnswer
from services.infrastructure.postgres import OUTAGES, Pool
from services.invoker import metrics as invoker_metrics
from services.message_router import metrics as message_router_metrics

_KEPT_S = 1.0
_TIMEOUT_S = 5.0


class DatabaseMetrics(Collector):
    """Asks once a second, however many scrape. Made in the event loop whose pool it is; shows none in an outage."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._loop = pool, asyncio.get_running_loop()
        self._found = KeptAnswer(self._find, _KEPT_S)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would collect, to learn the names, in the event loop."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Is called by a thread of the metrics' port."""
        finding = asyncio.run_coroutine_threadsafe(self._found.get(), self._loop)
        try:
            return finding.result(_TIMEOUT_S)
        except (TimeoutError, *OUTAGES):
            return ()

    async def _find(self) -> list[Metric]:
        return [*await invoker_metrics.families(self._pool), *await message_router_metrics.families(self._pool)]


@asynccontextmanager
async def database_metrics(pool: Pool) -> AsyncIterator[None]:
    """Shows them meanwhile."""
    collector = DatabaseMetrics(pool)
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)
