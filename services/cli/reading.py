"""What the commands that read the log have in common: which log, a progress bar, and errors of one line."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from contracts.ids import is_name
from services.audit.copied_log import CopiedLog
from services.audit.kafka_log import KafkaLog
from services.audit.log import AuditError, Log
from services.audit.log import Progress as Moved

Result = TypeVar("Result")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def answered(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs it; what the audit cannot answer is one line and exit code 2."""
    from services.cli.main import Unusable

    # Folding makes many small objects and no cycles: collecting all that lives again and again costs a third.
    usual = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        return asyncio.run(work)
    except AuditError as error:
        raise Unusable(str(error)) from None
    finally:
        gc.set_threshold(*usual)


@asynccontextmanager
async def opened(copy: Path | None) -> AsyncIterator[Log]:
    """The broker's log, or the copy."""
    from services.infrastructure.kafka import security_options

    if copy is not None:
        yield CopiedLog(copy)
        return
    async with KafkaLog(broker_address(), security_options()) as log:
        yield log


def broker_address() -> str:
    """Raises `SettingsError`."""
    from services.cli.main import _broker
    from services.infrastructure.settings import Settings

    return _broker(Settings.from_environment())


async def size_of(log: Log, *names: str, channel: str | None = None) -> int:
    """How many offsets a reading of the topics, or of one channel's partition of them, goes over."""
    from services.audit.log import home_of

    spans = await log.spans(*names)
    if channel is not None and log.partitions:
        spans = {home: spans[home] for home in (home_of(log, name, channel) for name in names)}
    return sum(span.end - span.first for span in spans.values())


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Moved]:
    """On standard error, and only where a person looks at it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda moved: bar.update(task, advance=moved)


def require_name(option: str, value: str | None) -> None:
    if value is not None and not is_name(value):
        from services.cli.main import Unusable

        raise Unusable(f"{option} is {value!r}; it must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
