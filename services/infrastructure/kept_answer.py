"""An answer that is found once for all who ask, and kept for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Answer = TypeVar("Answer")


class KeptAnswer(Generic[Answer]):
    """What ``find`` returns, or raises, at most so many seconds old."""

    def __init__(
        self,
        find: Callable[[], Coroutine[Any, Any, Answer]],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._seconds, self._clock = find, seconds, clock
        self._finding: asyncio.Task[Answer] | None = None
        self._begun_at = 0.0

    async def get(self) -> Answer:
        finding = self._finding
        if finding is None or (finding.done() and self._clock() - self._begun_at >= self._seconds):
            self._begun_at = self._clock()
            finding = self._finding = asyncio.create_task(self._find())
        return await asyncio.shield(finding)
