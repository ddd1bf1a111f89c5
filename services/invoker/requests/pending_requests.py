"""Pending requests: they refer to settings that the replica does not have, and may only be early.

Requests and settings come on different topics, so a request may be read before an event that it relies on. It is
refused only once all events are applied that were in the log when it was read. A request that names a
``settings_version`` waits a bounded time for that version.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog
from aiokafka.errors import KafkaError

from contracts.invocation import InvocationFailed
from services.infrastructure.checkpoints import next_offsets
from services.infrastructure.event_log import EventLog, LogEnd, log_ends
from services.infrastructure.poison_messages import isolate_poison
from services.infrastructure.postgres import OUTAGES, Connection, Pool
from services.invoker.limits import Limits
from services.invoker.outbox.notifications import outcome_record
from services.invoker.outbox.records import OutboxRecord, add_to_outbox
from services.invoker.poison import INTERNAL_ERROR, count_poison
from services.invoker.queue.delivery import DELIVERY_COLUMNS, Delivery, delivery_of
from services.invoker.queue.scheduling import Wake, wake
from services.invoker.requests.request_validation import (
    NOT_VALIDATED,
    CallRequest,
    NotServable,
    Servable,
    load_settings,
    validate_all,
)
from services.schema_validation.validator import SchemaValidator

log = structlog.stdlib.get_logger(__name__)

_BATCH = 500
_POLL_S = 0.1
_IDLE_S = 0.5

_SELECT_NEW = """
    SELECT id, channel FROM invoker.deliveries
    WHERE state = 'waiting' AND num_nulls(log_end, log_end_partition) > 0 ORDER BY created_at LIMIT $1
"""
_SET_LOG_ENDS = """
    UPDATE invoker.deliveries d SET log_end = r.log_end, log_end_partition = r.log_end_partition
    FROM unnest($1::text[], $2::int[], $3::bigint[]) AS r(id, log_end_partition, log_end)
    WHERE d.id = r.id AND num_nulls(d.log_end, d.log_end_partition) > 0
"""
_SELECT_PENDING = """
    SELECT created_at, id FROM invoker.deliveries
    WHERE state = 'waiting' AND num_nulls(log_end, log_end_partition) = 0 AND (created_at, id) > ($1, $2)
    ORDER BY created_at, id LIMIT $3
"""
_LOCK = f"""
    SELECT d.template, d.request, d.created_at, d.log_end_partition, d.log_end, {DELIVERY_COLUMNS}
    FROM invoker.deliveries d
    WHERE d.id = ANY($1::text[]) AND d.state = 'waiting' ORDER BY d.created_at, d.id FOR UPDATE SKIP LOCKED
"""  # noqa: S608 -- a constant of ours
_REFUSE_POISON = f"""
    UPDATE invoker.deliveries d SET state = 'refused', reason = 'InternalError', ended_at = now()
    WHERE d.id = $1 AND d.state = 'waiting' RETURNING {DELIVERY_COLUMNS}
"""  # noqa: S608 -- a constant of ours
_START = datetime.fromtimestamp(0, UTC), ""
_UPDATE = """
    WITH updated AS (UPDATE invoker.deliveries d SET state = r.state, body = r.body, reason = r.reason, due_at = now(),
        stored_bytes = d.stored_bytes + coalesce(octet_length(r.body), 0),
        ended_at = CASE WHEN r.state = 'refused' THEN now() END
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[]) AS r(id, state, body, reason)
    WHERE d.id = r.id RETURNING d.channel, d.system, d.lane, d.state, d.account, octet_length(r.body) AS added
    ), counted AS (
        INSERT INTO invoker.stored_bytes_changes
        SELECT account, sum(added) FROM updated WHERE added IS NOT NULL GROUP BY account
    )
    SELECT channel, system, lane, state FROM updated
"""


class PendingRequest(NamedTuple):
    """A delivery in state ``waiting``. ``log_end``: how far the log must be applied before it can be refused."""

    template: str | None
    request: str
    created_at: datetime
    log_end: LogEnd
    delivery: Delivery

    @classmethod
    def of(cls, row: Any) -> PendingRequest:
        template, request, created_at, partition, offset, *delivery = row
        return cls(template, request, created_at, LogEnd(partition, offset), Delivery._make(delivery))

    def call(self) -> CallRequest:
        content, delivery = json.loads(self.request), self.delivery
        return CallRequest(
            delivery.account,
            delivery.channel,
            delivery.system,
            delivery.code,
            self.template,
            content.get("data"),
            content.get("settings_version"),
            delivery.test,
        )


class _Update(NamedTuple):
    id: str
    state: str
    body: bytes | None
    reason: str | None


class PendingRequests:
    """Validates pending requests again until cancelled. ``on_resolved`` is called when some may be due or refused.

    ``consumer`` is the name of the checkpoints that say which events are applied.
    """

    def __init__(
        self,
        pool: Pool,
        event_log: EventLog,
        consumer: str,
        schemas: SchemaValidator,
        limits: Limits,
        on_resolved: Callable[[], None],
    ) -> None:
        self._pool, self._event_log, self._consumer, self._schemas = pool, event_log, consumer, schemas
        self._limits, self._on_resolved = limits, on_resolved

    async def run(self) -> None:
        while True:
            try:
                pending = await self.run_once()
            except (KafkaError, *OUTAGES) as error:
                log.warning("pending requests wait", reason=type(error).__name__)
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(_POLL_S if pending else _IDLE_S)

    async def run_once(self) -> bool:
        """Validates all pending requests, in batches, so that old ones delay no others. Returns whether any were."""
        while rows := await self._pool.fetch(_SELECT_NEW, _BATCH):
            await self._set_log_ends({row["id"]: row["channel"] for row in rows})
        found, after = False, _START
        while rows := await self._pool.fetch(_SELECT_PENDING, *after, _BATCH):
            await isolate_poison([row["id"] for row in rows], self._resolve, self._refuse_poison)
            self._on_resolved()
            found, after = True, (rows[-1]["created_at"], rows[-1]["id"])
        return found

    async def _resolve(self, ids: Sequence[str]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            pending = [PendingRequest.of(row) for row in await connection.fetch(_LOCK, ids)]
            if pending:
                await self._validate(connection, pending)

    async def _refuse_poison(self, delivery_id: str, _: Exception) -> None:
        """Refuses the request whose validation raises, so that it holds up no others."""
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_REFUSE_POISON, delivery_id)
            if row is not None:
                await add_to_outbox(connection, [_refusal(delivery_of(row), "InternalError", INTERNAL_ERROR)])
                await count_poison(connection)

    async def _set_log_ends(self, channels: dict[str, str]) -> None:
        """``channels`` by delivery id."""
        applied = await next_offsets(self._pool, self._consumer)
        ends = await log_ends(self._event_log, applied, set(channels.values()))
        found = [ends[channel] for channel in channels.values()]
        partitions, offsets = [one.partition for one in found], [one.offset for one in found]
        await self._pool.execute(_SET_LOG_ENDS, list(channels), partitions, offsets)

    async def _validate(self, connection: Connection, pending: Sequence[PendingRequest]) -> None:
        applied = await next_offsets(connection, self._consumer)  # before the settings, which are then at least as new
        calls = [request.call() for request in pending]
        settings = await load_settings(connection, calls)
        now = datetime.now(UTC)
        updates: list[_Update] = []
        refusals: list[OutboxRecord] = []
        validations = await validate_all(calls, settings, self._schemas)
        for request, call, validation in zip(pending, calls, validations, strict=True):
            delivery = request.delivery
            if isinstance(validation, Servable):
                state = "parked" if validation.parked else "due"
                updates.append(_Update(delivery.id, state, validation.body, None))
                continue
            caught_up = applied.get(request.log_end.partition, 0) > request.log_end.offset
            waited_s = (now - request.created_at).total_seconds()
            if is_final(call, validation, caught_up=caught_up, waited_s=waited_s, limits=self._limits):
                updates.append(_Update(delivery.id, "refused", None, validation.reason))
                refusals.append(_refusal(delivery, validation.reason, validation.message))
        if updates:
            rows = await connection.fetch(_UPDATE, *(list(column) for column in zip(*updates, strict=True)))
            await add_to_outbox(connection, refusals)
            due = [row for row in rows if row["state"] == "due"]
            await wake(connection, [Wake(row["channel"], row["system"], row["lane"], now) for row in due])


def is_final(call: CallRequest, missing: NotServable, *, caught_up: bool, waited_s: float, limits: Limits) -> bool:
    """Whether to refuse the request. ``caught_up``: all events are applied that were in the log when it was read."""
    if missing is NOT_VALIDATED:
        return False
    if call.settings_version is not None:
        version_missing = missing.version_missing or missing.reason == "ChannelUnknown"
        return not version_missing or (caught_up and waited_s > limits.settings_version_wait)
    return caught_up


def _refusal(delivery: Delivery, reason: str, message: str) -> OutboxRecord:
    outcome = InvocationFailed(
        system=delivery.system,
        code=delivery.code,
        delivery=delivery.id,
        test=delivery.test,
        status="refused",
        reason=reason,
        message=message,
    )
    return outcome_record(delivery.requester, outcome)
