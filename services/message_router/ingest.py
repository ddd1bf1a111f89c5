"""From requests and statuses on Kafka to decisions: one transaction per batch, with the checkpoint in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from services.infrastructure.checkpointed_commits import Done
from services.infrastructure.postgres import Connection
from services.message_router.decisions import handle_request, handle_status
from services.message_router.outbox import add_to_outbox, lock_partitions
from services.message_router.ownership import OnCommitted
from services.message_router.poison import set_aside_record
from services.message_router.rate_book import CurrentRates
from services.message_router.requests import RequestReader, RouteRequest
from services.message_router.timers import Timers
from services.message_router.work import load_work


class Ingest:
    """Applies batches of `switchboard.message-requests`. ``on_committed`` is called when there may be new records."""

    def __init__(
        self,
        reader: RequestReader,
        rates: CurrentRates,
        timers: Timers,
        on_committed: OnCommitted,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._reader, self._rates, self._timers = reader, rates, timers
        self._on_committed, self._on_step = on_committed, on_step

    async def apply(self, connection: Connection, partition: int, records: Sequence[Any]) -> Done:
        items, rejected = self._reader.read(records, time.time_ns() // 1_000_000)
        # Its own partition too, so that its checkpoint stays where it is until the partition is verified.
        partitions = {partition, *(item.subject.partition for item in items), *(one.partition for one in rejected)}
        if items:
            requests = [item for item in items if isinstance(item, RouteRequest)]
            appended_at = max(record.timestamp for record in records)
            due = await self._timers.due_with_batch(connection, partition, len(records))
            keys = {item.key for item in items} | set(due)
            work = await load_work(connection, self._rates, partitions, requests, keys, not_before=appended_at)
            self._on_step("loaded")
            self._timers.apply_with_batch(work, partition, due)
            for item in items:
                if isinstance(item, RouteRequest):
                    handle_request(work, item)
                else:
                    handle_status(work, item)
            work.records += rejected
            await work.save(connection)
        elif rejected:
            await add_to_outbox(connection, await lock_partitions(connection, partitions), rejected)
        self._on_step("ingested")
        return partial(self._done, partitions)

    async def set_aside(self, connection: Connection, record: Any, reason: str) -> None:
        """Refuses a request or status whose handling raises; it is a dead letter besides."""
        refusal = self._reader.internal_error(record, time.time_ns() // 1_000_000)
        await set_aside_record(connection, record, reason, refusal)

    def _done(self, partitions: Collection[int], committed: bool) -> None:  # noqa: FBT001 -- as `Done`
        if committed:
            self._on_step("committed")
            self._on_committed(partitions)
