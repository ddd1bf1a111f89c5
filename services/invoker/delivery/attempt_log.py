"""One log line per attempt: at debug where the first attempt succeeded, at info for every other one.

Most calls succeed at once, and an operator looks for the others; ``SWITCHBOARD_LOG_LEVEL=DEBUG`` shows all.
"""

from __future__ import annotations

import logging

import structlog

from services.invoker.queue.delivery import Delivery
from services.invoker.results.attempt import Attempt
from services.invoker.results.retry_policy import Delivered, Failed, NextStep, describe

log = structlog.stdlib.get_logger(__name__)
_levels = logging.getLogger(__name__)
"""Asked first: a disabled line through structlog costs 4 to 10 microseconds, up to 8 % of a call."""


def log_attempt(delivery: Delivery, attempt: Attempt, step: NextStep) -> None:
    level = logging.DEBUG if delivery.attempts == 1 and isinstance(step, Delivered) else logging.INFO
    if not _levels.isEnabledFor(level):
        return
    log.log(
        level,
        "attempt finished",
        delivery=delivery.id,
        channel=delivery.channel,
        system=delivery.system,
        attempt=delivery.attempts,
        duration_ms=attempt.duration_ms,
        result=describe(attempt.result),
        next=type(step).__name__,
        **_detail(attempt),
    )


def _detail(attempt: Attempt) -> dict[str, str]:
    result = attempt.result
    return {"detail": result.detail} if isinstance(result, Failed) and result.detail is not None else {}
