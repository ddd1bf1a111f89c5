"""Poison messages: what raises whenever it is handled. One must not stop the others, which may be other accounts'.

Whoever handles several items in one transaction handles them in halves once that raises, down to the one that raises
alone, which is set aside. Only what the data may be to blame for counts: a database or a broker that is away, full or
read-only would refuse every item, so these failures are raised, to be tried again.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import asyncpg
import structlog
from aiokafka.errors import KafkaError

from services.infrastructure.postgres import OUTAGES

log = structlog.stdlib.get_logger(__name__)

Item = TypeVar("Item")

_REFUSED_DATA = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,  # such as a key that is too long for its index
)


class AnotherProcess(Exception):
    """The work is another process' by now: nothing is wrong with the data."""


def is_poison(error: Exception) -> bool:
    """Whether the data that was handled may be to blame for the failure."""
    if isinstance(error, _REFUSED_DATA):
        return True
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return True  # asyncpg cannot encode a value
    return not isinstance(error, (AnotherProcess, KafkaError, asyncpg.PostgresError, MemoryError, *OUTAGES))


def reason_of(error: Exception) -> str:
    """A failure in words that hold nothing of the data."""
    return f"its handling raised {type(error).__name__}"


async def isolate_poison(
    items: Sequence[Item],
    handle: Callable[[Sequence[Item]], Awaitable[None]],
    set_aside: Callable[[Item, Exception], Awaitable[None]],
) -> None:
    """Handles the items in their order; one that raises alone is set aside, with the error.

    Each call of ``handle`` and ``set_aside`` is a transaction of its own. Failures that are no item's fault are raised,
    and so is whatever ``set_aside`` raises; the items before have been handled then.
    """
    try:
        await handle(items)
    except Exception as error:
        if not is_poison(error):
            raise
        if len(items) == 1:
            _log(error)
            await set_aside(items[0], error)
            return
    else:
        return
    middle = len(items) // 2
    for half in (items[:middle], items[middle:]):
        await isolate_poison(half, handle, set_aside)


def _log(error: Exception) -> None:
    """Logs where it was raised, without the error's text: that may repeat a recipient's number."""
    stack = "".join(traceback.format_tb(error.__traceback__))
    log.error("poison message set aside", error=type(error).__name__, stack=stack)
