"""Pages of the audit log: each goes on where the one before ended, instead of folding the log from its beginning.

What a page leaves behind is the state of the channels at its end. It is kept for the next page, as long as there is
room: for `KEPT_BYTES` of events, which take some four times as much as state. A page whose predecessor is not kept any
more is found from the beginning of the log.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass
from threading import Lock
from typing import Any

from services.audit.log.errors import Unclear
from services.audit.log.source import Log, end_positions
from services.audit.timeline.audit_log import AuditEntry, AuditFilter, AuditLogReading, ranges_to_read

KEPT_BYTES = 8 * 1024 * 1024
KEPT_READINGS = 64

PageKey = tuple[AuditFilter, str]
"""What is asked for, its account included, and the position after which it goes on."""


@dataclass(frozen=True, slots=True)
class _Kept:
    reading: AuditLogReading
    following: AuditEntry
    """The first entry of the next page, which has been read already."""


class AuditPages:
    """The readings that pages left behind, those that were left last. Used from several threads."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept: OrderedDict[PageKey, _Kept] = OrderedDict()
        self._kept_bytes, self._lock = kept_bytes, Lock()

    async def page(self, log: Log, asked: AuditFilter, after: str | None, limit: int) -> dict[str, Any]:
        """Returns a page as JSON. Raises `AuditError`."""
        with self._lock:
            kept = None if after is None else self._kept.pop((asked, after), None)
        reading = AuditLogReading(asked) if kept is None else kept.reading
        found = [] if kept is None else [kept.following]
        passed = after is None or kept is not None
        ranges = await ranges_to_read(log, asked)
        async with aclosing(reading.read(log, ranges)) as entries:
            while len(found) <= limit and (entry := await anext(entries, None)) is not None:
                if passed:
                    found.append(entry)
                passed = passed or str(entry.position) == after
        if not passed:
            raise Unclear("'after' must be the 'next' of a previous page with the same parameters.")
        more = len(found) > limit
        following = str(found[limit - 1].position) if more else None
        if following is not None:
            self._keep((asked, following), _Kept(reading, found[limit]))
        return {
            "entries": [entry.as_json() for entry in found[:limit]],
            "more": more,
            "next": following,
            "read_to": [str(end) for end in end_positions(ranges)],
        }

    def _keep(self, key: PageKey, kept: _Kept) -> None:
        with self._lock:
            self._kept[key] = kept
            self._kept.move_to_end(key)
            size = sum(one.reading.folded_bytes for one in self._kept.values())
            while size > self._kept_bytes or len(self._kept) > KEPT_READINGS:
                _, oldest = self._kept.popitem(last=False)
                size -= oldest.reading.folded_bytes
