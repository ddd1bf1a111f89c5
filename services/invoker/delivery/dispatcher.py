"""The dispatcher: claims what is due, calls what is leased to this process, and hands the results to the recorder.

Calls are made outside any transaction. A first attempt that has a free slot when its request comes is leased at once
(`ingest.py`) and needs no claim. Slots are limited per system, so that a receiver that hangs delays only itself, and
per lane, so that retries do not use up the slots of first attempts.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import assert_never

import structlog

from services.domain.url_target import origin
from services.infrastructure import tracing
from services.infrastructure.postgres import OUTAGES, Pool
from services.infrastructure.vault import KeyRing
from services.invoker.delivery.attempt_log import log_attempt
from services.invoker.delivery.http_call import AnswerHead, WebhookClient
from services.invoker.delivery.listener_calls import ListenerCalls
from services.invoker.limits import Limits
from services.invoker.queue import claiming
from services.invoker.queue.concurrency import ConcurrencyLimiter
from services.invoker.queue.delivery import Delivery, SystemKey
from services.invoker.queue.host_rate import HostRate
from services.invoker.queue.scheduling import Lane
from services.invoker.results.attempt import Attempt, DeliveryResult
from services.invoker.results.recorder import Recorder
from services.invoker.results.retry_policy import (
    CallResult,
    Failed,
    GaveUp,
    Parked,
    Postponed,
    RetryState,
    next_step,
)
from services.invoker.settings_replica.endpoint import (
    Endpoint,
    EndpointLookup,
    EndpointNotReady,
    NoEndpoint,
    no_endpoint,
)
from services.invoker.settings_replica.endpoint_cache import EndpointCache

log = structlog.stdlib.get_logger(__name__)

_POLL_S = 0.25
_CLAIM_INTERVAL_S = 0.004
"""Between two claims: what becomes due meanwhile is claimed together."""
_SATURATED_INTERVAL_S = 0.015
"""The same while no slot is free: slots that become free meanwhile are filled together."""
_SIGNATURES_ARRIVE_WITHIN = timedelta(milliseconds=500)
_KEY_RING_IS_FIXED_WITHIN = timedelta(minutes=1)


class Dispatcher:
    """Runs until cancelled. ``wake`` is set when deliveries may be due.

    ``on_step`` is told the steps of a delivery: ``leased`` or ``claimed``, ``called`` (and the recorder ``recorded``).
    """

    def __init__(
        self,
        pool: Pool,
        client: WebhookClient,
        keyring: KeyRing,
        recorder: Recorder,
        limits: Limits,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._pool, self._client, self._recorder = pool, client, recorder
        self._listeners = ListenerCalls(pool, limits)
        self._endpoints = EndpointCache(keyring)
        self._limits, self._on_step = limits, on_step
        self.concurrency = ConcurrencyLimiter(limits)
        self._host_rate = HostRate(limits.calls_per_host)
        self._queues_awake = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.wake = asyncio.Event()

    async def run(self) -> None:
        try:
            while True:
                self.wake.clear()
                try:
                    async with asyncio.timeout(self._limits.transaction_timeout):
                        claimed = await self._claim()
                except OUTAGES as error:
                    log.warning("dispatcher waits for the database", reason=type(error).__name__)
                    claimed = 0
                    await asyncio.sleep(1)
                if not claimed:
                    try:
                        async with asyncio.timeout(_POLL_S):
                            await self.wake.wait()
                    except TimeoutError:
                        pass
                free = self.concurrency.available("first") > 0
                await asyncio.sleep(_CLAIM_INTERVAL_S if free else _SATURATED_INTERVAL_S)
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=5)
            for task in self._tasks:
                task.cancel()

    def start_leased(self, deliveries: Sequence[Delivery]) -> None:
        """Calls deliveries that are leased to this process and have their slots."""
        self._track(asyncio.create_task(self._start(deliveries, "leased")))

    async def _claim(self) -> int:
        lanes = await claiming.awake_lanes(self._pool)
        self._queues_awake = bool(lanes)
        deliveries: list[Delivery] = []
        saturated = False
        for lane in lanes:
            slots, in_flight = self.concurrency.available(lane), self.concurrency.in_flight_by_system
            claimed = await claiming.claim(self._pool, lane, in_flight, slots, self._limits) if slots > 0 else []
            for delivery in claimed:
                self.concurrency.acquire(_slot_key(delivery), _slot_lane(delivery))
            deliveries += claimed
            saturated |= lane == "first" and len(claimed) >= slots
        self.concurrency.saturated = saturated
        if deliveries:
            await self._start(deliveries, "claimed")
        return len(deliveries)

    async def _start(self, deliveries: Sequence[Delivery], step: str) -> None:
        """Starts the calls of deliveries, all of which have their slots."""
        try:
            async with self._pool.acquire() as connection:
                endpoints = await self._endpoints.load(connection, {delivery.system_key for delivery in deliveries})
        except BaseException:
            for delivery in deliveries:
                self._release(delivery)
            raise
        for delivery in deliveries:
            self._on_step(step)
            task = self._track(asyncio.create_task(self._deliver(delivery, endpoints[delivery.system_key])))
            task.add_done_callback(partial(self._on_delivery_ended, delivery))

    def _track(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._on_task_ended)
        return task

    def _on_task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("deliveries wait for their leases to end", reason=type(error).__name__)

    def _on_delivery_ended(self, delivery: Delivery, _: asyncio.Task[None]) -> None:
        self._release(delivery)
        if self._queues_awake:
            self.wake.set()

    def _release(self, delivery: Delivery) -> None:
        self.concurrency.release(_slot_key(delivery), _slot_lane(delivery))

    async def _deliver(self, delivery: Delivery, endpoint: EndpointLookup) -> None:
        if delivery.cancel_reason is not None:  # its system may have been opened again since
            endpoint = no_endpoint(delivery.cancel_reason, delivery.channel, delivery.system)
        elif isinstance(endpoint, Endpoint) and delivery.only_key_id is not None:
            endpoint = endpoint.with_only(delivery.only_key_id)
        now = datetime.now(UTC)
        match endpoint:
            case NoEndpoint(reason, message):
                self._recorder.put(DeliveryResult(delivery, GaveUp(reason, message)))
            case EndpointNotReady(None):
                self._recorder.put(DeliveryResult(delivery, Postponed(now + _SIGNATURES_ARRIVE_WITHIN)))
            case EndpointNotReady(error):
                log.error("endpoint not ready", channel=delivery.channel, system=delivery.system, reason=error)
                self._recorder.put(DeliveryResult(delivery, Postponed(now + _KEY_RING_IS_FIXED_WITHIN)))
            case Endpoint(disabled=True) if not delivery.test:
                self._recorder.put(DeliveryResult(delivery, Parked()))
            case Endpoint() if delivery.to_listener:
                await self._call(delivery, endpoint)
            case Endpoint():
                wait_s = self._host_rate.take(origin(endpoint.api_request_url)[1], delivery.account)
                if wait_s > 0.0:
                    self._recorder.put(DeliveryResult(delivery, Postponed(now + timedelta(seconds=wait_s))))
                else:
                    await self._call(delivery, endpoint)
            case _:
                assert_never(endpoint)

    async def _call(self, delivery: Delivery, endpoint: Endpoint) -> None:
        if delivery.body is None:
            raise ValueError(f"delivery {delivery.id} is due and has no body")
        started_at, clock = datetime.now(UTC), time.monotonic()
        span = tracing.start("POST", "CLIENT", delivery.traceparent, {"switchboard.attempt": delivery.attempts})
        traceparent = tracing.traceparent_of(span, delivery.traceparent)
        if delivery.to_listener:
            result = await self._ask_listeners(delivery, endpoint, traceparent)
            endpoint = endpoint.for_listener()
        else:
            result = await self._client.post(endpoint, delivery.id, delivery.body, traceparent)
        self._on_step("called")
        if isinstance(result, Failed):
            tracing.end(span, error=result.stage)
        else:
            tracing.end(span, {"http.request.method": "POST", "http.response.status_code": result.status})
        attempt = Attempt(endpoint, started_at, round((time.monotonic() - clock) * 1000), result)
        state = RetryState(
            counted=delivery.attempts - delivery.uncounted,
            uncounted=delivery.uncounted - delivery.attempts_before_replay,
            expires_at=delivery.expires_at,
            test=delivery.test,
        )
        jitter = random.uniform(-1, 1)  # noqa: S311 -- jitter, not a secret
        step = next_step(result, state, now=datetime.now(UTC), jitter=jitter, limits=self._limits)
        self._recorder.put(DeliveryResult(delivery, step, attempt))
        log_attempt(delivery, attempt, step)

    async def _ask_listeners(self, delivery: Delivery, endpoint: Endpoint, traceparent: str | None) -> CallResult:
        found = await self._listeners.ask(delivery, endpoint.signature_style, traceparent)
        if isinstance(found, Failed):
            return found
        # The account's secrets never reach a listener; whoever has one from elsewhere may still echo it.
        status, answer = found
        return await self._client.read_answer(AnswerHead(status, {}), answer, endpoint, {})


def _slot_key(delivery: Delivery) -> SystemKey:
    """What the slots of a system are counted by. A slow listener takes none from the calls of its system."""
    return (delivery.channel, f"listener/{delivery.system}") if delivery.to_listener else delivery.system_key


def _slot_lane(delivery: Delivery) -> Lane:
    """The lane whose slot a call takes; test calls take those of first attempts."""
    return "retry" if delivery.attempts > 1 else "first"
