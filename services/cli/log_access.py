"""How commands read the log: from the broker or a copy, with a progress bar and errors of one line."""

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

from services.audit.log.copied_log import CopiedLog
from services.audit.log.errors import AuditError
from services.audit.log.kafka_log import KafkaLog
from services.audit.log.source import Log
from services.audit.log.source import Progress as Moved
from services.cli.connections import bootstrap_servers
from services.cli.errors import CliError

Result = TypeVar("Result")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def run_audit(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs an audit command; an `AuditError` becomes one line and exit code 2."""
    # Folding creates many small objects and no cycles; with the usual thresholds, collection takes a third of the time.
    usual = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        return asyncio.run(work)
    except AuditError as error:
        raise CliError(str(error)) from None
    finally:
        gc.set_threshold(*usual)


@asynccontextmanager
async def open_log(copy: Path | None) -> AsyncIterator[Log]:
    """The broker's log, or the copy."""
    from services.infrastructure.kafka import security_options

    if copy is not None:
        yield CopiedLog(copy)
        return
    async with KafkaLog(bootstrap_servers(), security_options()) as log:
        yield log


async def offsets_to_read(log: Log, *names: str, channel: str | None = None) -> int:
    """The number of offsets in the topics, or in the partitions of one channel."""
    from services.audit.log.source import sources_of

    ranges = await log.offset_ranges(*names)
    if channel is not None and log.partitions:
        ranges = {source: ranges[source] for name in names for source in sources_of(log, name, channel)}
    return sum(offsets.end - offsets.first for offsets in ranges.values())


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Moved]:
    """A progress bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda moved: bar.update(task, advance=moved)
