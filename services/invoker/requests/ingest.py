"""From requests on Kafka to deliveries: one row per request, inserted in the transaction of the checkpoint.

A request that can be called at once is inserted with a lease of this process and called after the commit: it needs no
claim. That is so where a slot is free, the system is verified, its circuit has no failure, and no delivery waits in its
queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, Protocol
from uuid import UUID, uuid4

from contracts.invocation import InvokeIntent, MakeTestCall, TriggerIntent
from services.infrastructure.checkpointed_commits import Done
from services.infrastructure.postgres import Connection
from services.invoker.limits import DEFAULT_LIMITS, Limits
from services.invoker.outbox.notifications import dead_letter_record
from services.invoker.outbox.records import add_to_outbox
from services.invoker.poison import count_poison
from services.invoker.queue.concurrency import ConcurrencyLimiter
from services.invoker.queue.delivery import Delivery, RequestKey
from services.invoker.queue.rate_of_test_calls import count_test_calls
from services.invoker.queue.scheduling import Wake, wake
from services.invoker.queue.storage import accounts_over
from services.invoker.requests.refusals import (
    beyond_quota_refusal,
    internal_error_refusal,
    reused_id_refusal,
    too_many_test_calls_refusal,
)
from services.invoker.requests.request import (
    Request,
    canonical_json,
    original_request,
    read_requests,
    stored_request,
)
from services.invoker.requests.request_validation import Servable, Validation, load_settings, validate_all
from services.schema_validation.validator import SchemaValidator

_INSERT = """
    WITH inserted AS (INSERT INTO invoker.deliveries (id, account, channel, request_id, correlation_id, system, code,
        template, request, state, expires_at, body, test, only_key_id, traceparent, to_listener, stored_bytes,
        attempts, lease, leased_until, claimed_at)
    SELECT id, account, channel, request_id, correlation_id, system, code, template, request::json,
        state, expires_at, body, test, only_key_id, traceparent, to_listener,
        octet_length(request) + coalesce(octet_length(body), 0),
        CASE WHEN leased THEN 1 ELSE 0 END,
        CASE WHEN leased THEN $18::uuid END, CASE WHEN leased THEN now() + $19 END, CASE WHEN leased THEN now() END
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
        $9::text[], $10::text[], $11::timestamptz[], $12::bytea[], $13::bool[], $14::text[], $15::text[],
        $16::bool[], $17::bool[])
        AS r(id, account, channel, request_id, correlation_id, system, code, template, request,
            state, expires_at, body, test, only_key_id, traceparent, to_listener, leased)
    ON CONFLICT (account, channel, request_id) DO NOTHING
    RETURNING id, due_at, account, stored_bytes
    ), counted AS (
        INSERT INTO invoker.stored_bytes_changes SELECT account, sum(stored_bytes) FROM inserted GROUP BY account
    )
    SELECT id, due_at FROM inserted
"""
_SELECT_EARLIER = """
    SELECT d.account, d.channel, d.request_id, d.request, d.body, d.test
    FROM unnest($1::text[], $2::text[], $3::text[]) AS w(account, channel, request_id)
    JOIN invoker.deliveries d USING (account, channel, request_id)
"""


class NewDelivery(NamedTuple):
    """A row to insert; the statement's parameters in their order."""

    id: str
    account: str
    channel: str
    request_id: str
    correlation_id: str
    system: str
    code: str
    template: str | None
    request: str
    state: str
    expires_at: datetime | None
    body: bytes | None
    test: bool
    only_key_id: str | None
    traceparent: str | None
    to_listener: bool

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def leased(self, lease: UUID) -> Delivery:
        """The same as a delivery whose first attempt is to be made under this lease."""
        return Delivery(
            id=self.id,
            account=self.account,
            channel=self.channel,
            request_id=self.request_id,
            correlation_id=self.correlation_id,
            system=self.system,
            code=self.code,
            body=self.body,
            attempts=1,
            expires_at=self.expires_at,
            lease=lease,
            key_id=None,
            cancel_reason=None,
            test=self.test,
            only_key_id=self.only_key_id,
            uncounted=0,
            attempts_before_replay=0,
            replays=0,
            traceparent=self.traceparent,
            to_listener=self.to_listener,
        )


class LeasedCalls(Protocol):
    """Calls deliveries that are leased to this process."""

    @property
    def concurrency(self) -> ConcurrencyLimiter: ...

    def start_leased(self, deliveries: Sequence[Delivery]) -> None: ...


class Ingest:
    """Applies batches of `switchboard.invocation-requests`; unreadable records become dead letters.

    Without ``calls`` nothing is leased: every delivery that is due waits in its queue.
    """

    def __init__(
        self,
        schemas: SchemaValidator,
        calls: LeasedCalls | None = None,
        limits: Limits = DEFAULT_LIMITS,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._schemas, self._calls, self._limits, self._on_step = schemas, calls, limits, on_step

    async def apply(self, connection: Connection, _: int, records: Sequence[Any]) -> Done | None:
        requests, rejected = read_requests(records)
        if self._calls is not None:
            await self._calls.concurrency.wait_for_first_attempts(len(requests), self._limits.ingest_wait)
        await add_to_outbox(connection, rejected)
        requests = await self._refuse_beyond_limits(connection, requests)
        leased = await self._insert(connection, requests) if requests else []
        self._on_step("ingested")
        return partial(self._on_transaction_ended, leased) if leased else None

    async def set_aside(self, connection: Connection, record: Any, reason: str) -> None:
        """Refuses a request whose handling raises; it is a dead letter besides."""
        refusal = internal_error_refusal(record)
        letter = dead_letter_record(record, reason)
        await add_to_outbox(connection, [letter] if refusal is None else [letter, refusal])
        await count_poison(connection)

    async def _refuse_beyond_limits(self, connection: Connection, requests: list[Request]) -> list[Request]:
        """Refuses new requests of accounts that store too much, and new test calls beyond the account's rate.

        Returns the others. A repeated request is no new one.
        """
        accounts = {request.envelope.accountid for request in requests}
        over = await accounts_over(connection, accounts, self._limits.max_stored_bytes) if accounts else set()
        tests = [request.key for request in requests if request.is_test and request.envelope.accountid not in over]
        may_be_made = await count_test_calls(connection, tests)
        too_many = set(tests) - may_be_made
        suspects = [request for request in requests if request.envelope.accountid in over or request.key in too_many]
        if not suspects:
            return requests
        known = await _earlier_contents(connection, suspects)
        refused = {request.key: request for request in suspects if request.key not in known}
        refusals = [
            too_many_test_calls_refusal(request)
            if request.key in too_many
            else beyond_quota_refusal(request, self._limits)
            for request in refused.values()
        ]
        await add_to_outbox(connection, refusals)
        return [request for request in requests if request.key not in refused]

    async def _insert(self, connection: Connection, requests: Sequence[Request]) -> list[Delivery]:
        """Inserts deliveries, due where the request can be served, else waiting; a request that has one is skipped.

        Returns the leased ones; each has a slot.
        """
        calls = [request.call() for request in requests]
        settings = await load_settings(connection, calls)
        validations = await validate_all(calls, settings, self._schemas)
        deliveries = [_new_delivery(*pair) for pair in zip(requests, validations, strict=True)]
        leased = self._lease([new for new, found in zip(deliveries, settings, strict=True) if found.callable_at_once])
        try:
            due_at = await _insert(connection, deliveries, leased, self._limits)
            if len(due_at) < len(requests):
                inserted = {request.key for request, new in zip(requests, deliveries, strict=True) if new.id in due_at}
                await _refuse_reused_ids(connection, requests, inserted)
            await wake(
                connection,
                [
                    Wake(new.channel, new.system, "test" if new.test else "first", due_at[new.id])
                    for new in deliveries
                    if new.id in due_at and new.state == "due" and new.id not in leased
                ],
            )
        except BaseException:
            self._release(leased.values())
            raise
        self._release([delivery for delivery in leased.values() if delivery.id not in due_at])
        return [delivery for delivery in leased.values() if delivery.id in due_at]

    def _lease(self, deliveries: Sequence[NewDelivery]) -> dict[str, Delivery]:
        """Leases those that can be called at once and get a slot; returns them by id."""
        if self._calls is None:
            return {}
        now = datetime.now(UTC)
        due = [new for new in deliveries if new.state == "due" and not new.test and not new.expired(now)]
        acquired = self._calls.concurrency.acquire_first_attempts([(new.channel, new.system) for new in due])
        lease = uuid4()
        return {new.id: new.leased(lease) for new, has_slot in zip(due, acquired, strict=True) if has_slot}

    def _on_transaction_ended(self, leased: Sequence[Delivery], committed: bool) -> None:  # noqa: FBT001 -- as `Done`
        if committed and self._calls is not None:
            self._calls.start_leased(leased)
        else:
            self._release(leased)

    def _release(self, leased: Iterable[Delivery]) -> None:
        for delivery in leased:
            if self._calls is not None:
                self._calls.concurrency.release(delivery.system_key, "first")


def _new_delivery(request: Request, validation: Validation) -> NewDelivery:
    body = request.body
    call_body = validation.body if isinstance(validation, Servable) else None
    state = "waiting"
    if isinstance(validation, Servable):
        state = "parked" if validation.parked else "due"
    return NewDelivery(
        request.delivery,
        *request.key,
        request.correlation_id,
        body.system,
        request.code,
        body.template if isinstance(body, InvokeIntent) else None,
        stored_request(body, call_body),
        state,
        request.expires_at,
        call_body,
        test=request.is_test,
        only_key_id=body.key_id if isinstance(body, MakeTestCall) else None,
        traceparent=request.envelope.traceparent,
        to_listener=isinstance(body, TriggerIntent),
    )


async def _insert(
    connection: Connection, deliveries: Sequence[NewDelivery], leased: dict[str, Delivery], limits: Limits
) -> dict[str, datetime]:
    """Inserts the deliveries of requests that have none yet; returns when each of these is due, by its id."""
    columns = [list(column) for column in zip(*deliveries, strict=True)]
    is_leased = [new.id in leased for new in deliveries]
    lease = next((delivery.lease for delivery in leased.values()), None)
    lease_duration = timedelta(seconds=limits.lease_duration)
    return dict(await connection.fetch(_INSERT, *columns, is_leased, lease, lease_duration))


async def _refuse_reused_ids(connection: Connection, requests: Sequence[Request], inserted: set[RequestKey]) -> None:
    """Refuses each request whose id came before with another content; the first request with an id stands."""
    repeats: list[Request] = []
    for request in requests:
        if request.key in inserted:
            inserted.remove(request.key)
        else:
            repeats.append(request)
    earlier = await _earlier_contents(connection, repeats)
    refusals = [
        reused_id_refusal(request, content)
        for request in repeats
        if earlier[request.key] != (request.is_test, content := request.canonical_content())
    ]
    await add_to_outbox(connection, refusals)


async def _earlier_contents(connection: Connection, requests: Sequence[Request]) -> dict[RequestKey, tuple[bool, str]]:
    """Of those requests whose id came before: whether it was a test call, and its content."""
    keys = zip(*(request.key for request in requests), strict=True)
    return {
        (row["account"], row["channel"], row["request_id"]): (
            row["test"],
            canonical_json(original_request(row["request"], row["body"])),
        )
        for row in await connection.fetch(_SELECT_EARLIER, *(list(column) for column in keys))
    }
