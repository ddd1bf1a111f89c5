"""What a request reads of the database: two that look alike must cost alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import asyncpg


class CountingConnection(asyncpg.Connection[Any] if TYPE_CHECKING else asyncpg.Connection):  # type: ignore[misc]
    """Counts the queries of all connections, and the rows and characters of their answers."""

    read: ClassVar[Counter[str]] = Counter()
    statements: ClassVar[Counter[str]] = Counter()

    async def _execute(self, *args: Any, **options: Any) -> Any:  # all of asyncpg's ways to ask lead here
        self.statements.update(args[:1])
        answer = await super()._execute(*args, **options)
        rows = answer if isinstance(answer, list) else answer[0] or ()
        self.read.update(queries=1, rows=len(rows), characters=sum(len(repr(row)) for row in rows))
        return answer
