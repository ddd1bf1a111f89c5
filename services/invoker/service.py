"""The invoker: requests become delivery rows, rows become signed calls, calls become outcomes on Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

from contracts import topics
from services.domain.url_policy import Allowlist
from services.infrastructure.config import Settings, SettingsError
from services.infrastructure.event_log import KafkaEventLog
from services.infrastructure.kafka import security_options
from services.infrastructure.kafka_to_postgres import Consumer
from services.infrastructure.open_files import raise_open_file_limit
from services.infrastructure.postgres import migrate, pool_of
from services.infrastructure.threads import favour_event_loop
from services.infrastructure.vault import KeyRing
from services.invoker.delivery.dispatcher import Dispatcher
from services.invoker.delivery.dns import resolve_addresses
from services.invoker.delivery.http_call import WebhookClient
from services.invoker.limits import Limits
from services.invoker.outbox.relay import OutboxRelay
from services.invoker.queue.sweeper import Sweeper
from services.invoker.requests.ingest import Ingest
from services.invoker.requests.pending_requests import PendingRequests
from services.invoker.results.attempt import RecordedBatch
from services.invoker.results.recorder import Recorder
from services.invoker.settings_replica.event_handlers import apply_events, apply_signatures
from services.schema_validation.validator import SchemaValidator

log = structlog.stdlib.get_logger(__name__)

NAME = "switchboard.invoker"
_MAX_RECORDS = 192
"""In one batch of requests. Fewer than half of the slots, so that all get one soon; further requests wait on Kafka."""
MIGRATIONS = Path(__file__).with_name("migrations")


async def run(
    settings: Settings,
    *,
    ready: Callable[[], None],
    on_step: Callable[[str], None] = lambda _: None,
    limits: Limits | None = None,
) -> None:
    """Runs until cancelled; survives outages of the broker and the database. Raises `SettingsError`.

    ``on_step`` is told each step of a delivery: ``ingested`` (before its commit), ``leased`` (after it) or ``claimed``,
    ``called``, ``recorded``.
    """
    _tune_garbage_collection()
    favour_event_loop()
    raise_open_file_limit()  # connections are kept alive after each call, to many hosts
    keyring = KeyRing.parse(settings.keyring)
    allowlist = await _allowlist(settings)
    limits = limits or Limits.of(settings)
    pool = await pool_of(settings, size=20, resets=False, takes_over=True)
    await migrate(pool, "invoker", MIGRATIONS)
    bootstrap = settings.kafka_bootstrap_servers or ""
    relay = OutboxRelay(pool, bootstrap, security_options())
    async with WebhookClient(allowlist, limits) as client, contextlib.aclosing(SchemaValidator()) as schemas:

        def on_recorded(recorded: RecordedBatch) -> None:
            relay.publish_reserved(recorded.outbox_ids, recorded.outbox_records)
            if len(recorded.results) > len(recorded.outbox_ids):
                relay.notify()

        recorder = Recorder(pool, limits, on_recorded, on_step)
        dispatcher = Dispatcher(pool, client, keyring, recorder, limits, on_step)

        def on_due() -> None:
            dispatcher.wake.set()
            relay.notify()

        ingest = Ingest(schemas, dispatcher, limits, on_step)
        consumer = Consumer(
            settings,
            pool,
            NAME,
            {
                topics.EVENTS.name: apply_events,
                topics.SIGNATURES.name: apply_signatures,
                topics.INVOCATION_REQUESTS.name: ingest.apply,
            },
            on_due,
            _MAX_RECORDS,
            set_aside={topics.INVOCATION_REQUESTS.name: ingest.set_aside},
        )
        event_log = KafkaEventLog(bootstrap, security_options())
        try:
            async with asyncio.TaskGroup() as tasks:
                parts: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
                    "dispatcher": lambda: _dispatch_and_record(dispatcher, recorder),
                    "outbox relay": relay.run,
                    "pending requests": PendingRequests(pool, event_log, NAME, schemas, limits, on_due).run,
                    "sweeper": Sweeper(pool, limits, recorder.counters, on_due).run,
                }
                for part, work in parts.items():
                    tasks.create_task(_restart_on_failure(part, work))
                # Deliveries in the database are called while the broker is away or the group waits for a lost member.
                try:
                    await consumer.start()
                    ready()
                    await asyncio.Event().wait()
                finally:  # before the others end: deliveries that it leases are still called
                    await consumer.stop()
        finally:
            await event_log.close()
            await pool.close()


async def _allowlist(settings: Settings) -> Allowlist:
    """Raises `SettingsError`."""
    own = settings.own_addresses()
    try:
        return Allowlist.parse(settings.invoker_allow, never=[*own, *await resolve_addresses(own)])
    except ValueError as error:
        raise SettingsError(f"SWITCHBOARD_INVOKER_ALLOW cannot be used: {error}") from None


def _tune_garbage_collection() -> None:
    """Reference counts free a call's objects; the collector, at its defaults, costs an eighth of a call's time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _restart_on_failure(part: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A bug in one part of the work is logged, and stops neither that part for long nor the others."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("restarting a part of the invoker", part=part)
            await asyncio.sleep(1)


async def _dispatch_and_record(dispatcher: Dispatcher, recorder: Recorder) -> None:
    """At the end, results of calls that were in flight are still recorded."""
    recording = asyncio.create_task(recorder.run())
    try:
        await dispatcher.run()
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await recorder.drain()
        recording.cancel()
