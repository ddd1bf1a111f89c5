"""Times as options take them: one form for all."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from services.cli.errors import CliError


def parse_time(option: str, text: str | None, *, excluded: bool = False) -> int | None:
    """An instant, a day (its first instant in UTC) or `now`, in Unix milliseconds. Raises `CliError`.

    It is cut to the millisecond; an ``excluded`` end is the first millisecond that is not before it.
    """
    if text is None:
        return None
    from services.audit.log.errors import AuditError
    from services.audit.timeline.settings_at import LATEST, parse_moment

    try:
        moment = parse_moment(text)
    except AuditError:
        moment = None
    if moment is LATEST:
        return time.time_ns() // 1_000_000
    if moment is None or moment.time is None:
        raise CliError(f"{option} is {text!r}; it must be a time, like 2026-11-22T08:00:00Z, 2026-11-22 or now.")
    return moment.excluded_end if excluded else moment.time


def parse_instant(option: str, text: str | None, *, excluded: bool = False) -> datetime | None:
    """The same as a datetime in UTC."""
    found = parse_time(option, text, excluded=excluded)
    return None if found is None else datetime.fromtimestamp(found / 1000, UTC)
