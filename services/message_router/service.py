"""The message router: requests become decisions, statuses end reservations, and both reach Kafka exactly once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from contracts import topics
from services.infrastructure.config import Settings
from services.infrastructure.event_log import KafkaEventLog
from services.infrastructure.kafka import security_options
from services.infrastructure.kafka_to_postgres import Consumer
from services.infrastructure.outages import retry_during_outage
from services.infrastructure.postgres import BY_KEY, migrate, pool_of
from services.infrastructure.topics import partition_count
from services.infrastructure.vault import KeyRing
from services.message_router.ingest import Ingest
from services.message_router.ownership import NAME, Ownership
from services.message_router.pending import SETTINGS_VERSION_WAIT_MS, PendingRequests
from services.message_router.poison import set_aside_record
from services.message_router.publisher import OutboxPublisher
from services.message_router.rate_book import CurrentRates, apply_rate_books
from services.message_router.rate_notices import RateNotices
from services.message_router.recipients import Recipients
from services.message_router.requests import RequestReader
from services.message_router.retention import Retention
from services.message_router.scheduling_resources import apply_reports
from services.message_router.settings_replica import apply_events
from services.message_router.timers import Timers

log = structlog.stdlib.get_logger(__name__)

MIGRATIONS = Path(__file__).with_name("migrations")
_MAX_RECORDS = 4_000
"""About 500 of each of eight partitions: the statements of a transaction cost as much as a dozen decisions."""


async def run(
    settings: Settings,
    *,
    ready: Callable[[], None],
    on_step: Callable[[str], None] = lambda _: None,
    settings_version_wait_ms: int = SETTINGS_VERSION_WAIT_MS,
) -> None:
    """Runs until cancelled; survives outages of the broker and the database. Raises `SettingsError`.

    ``on_step`` is told each step: ``loaded``, ``ingested`` (before its commit), ``committed``, ``timed``, ``fenced``,
    ``publishing``, ``sent`` (before its commit), ``published``.
    """
    recipients = Recipients(KeyRing.parse(settings.keyring))
    security, bootstrap = security_options(), settings.kafka_bootstrap_servers or ""
    pool = await pool_of(settings, size=20, resets=False, planning=BY_KEY, takes_over=True)
    event_log = KafkaEventLog(bootstrap, security)
    publisher = OutboxPublisher(pool, bootstrap, security, on_step)
    ownership = Ownership()

    def own(assigned: frozenset[TopicPartition]) -> None:
        ownership.partitions = frozenset(tp.partition for tp in assigned if tp.topic == topics.MESSAGE_REQUESTS.name)
        publisher.own(ownership.partitions)

    try:
        await migrate(pool, "message_router", MIGRATIONS)
        count = partial(partition_count, bootstrap, topics.MESSAGE_REQUESTS.name, security)
        partitions = await retry_during_outage(count, (KafkaError, OSError), "broker")
        rates = CurrentRates()

        def notify(changed: Collection[int]) -> None:
            publisher.notify(changed)
            pending.notify()
            timers.notify()

        replica = pool, event_log, NAME, ownership, rates, notify
        pending = PendingRequests(*replica, settings_version_wait_ms)
        timers = Timers(*replica, on_step)
        ingest = Ingest(RequestReader(recipients, partitions), rates, timers, notify, on_step)
        consumer = Consumer(
            settings,
            pool,
            NAME,
            {
                topics.EVENTS.name: apply_events,
                topics.RATES.name: apply_rate_books,
                topics.SCHEDULING_RESOURCES.name: apply_reports,
                topics.MESSAGE_REQUESTS.name: ingest.apply,
            },
            records_at_once=_MAX_RECORDS,
            on_assignment=own,
            set_aside={
                topics.RATES.name: set_aside_record,
                topics.SCHEDULING_RESOURCES.name: set_aside_record,
                topics.MESSAGE_REQUESTS.name: ingest.set_aside,
            },
        )
        rate_notices = RateNotices(pool, partitions, ownership, rates, publisher.notify)
        loops = {"pending requests": pending.run, "timers": timers.run, "rate notices": rate_notices.run}
        loops["retention"] = Retention(pool, ownership, settings.message_log_days).run
        async with asyncio.TaskGroup() as tasks:
            for part, work in loops.items():
                tasks.create_task(_restart_on_failure(part, work))
            try:
                await consumer.start()
                # Reference counts free a batch's objects; at its defaults, the collector goes through all modules' too.
                gc.freeze()
                gc.set_threshold(20_000, 20, 20)
                ready()
                await asyncio.Event().wait()
            finally:
                await consumer.stop()
    finally:
        await publisher.stop()
        await event_log.close()
        await pool.close()


async def _restart_on_failure(part: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A bug in one part is logged, and stops neither that part for long nor the others."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("restarting a part of the message router", part=part)
            await asyncio.sleep(1)
