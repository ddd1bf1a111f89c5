"""The invoker: requests become delivery rows, rows become signed calls, calls become outcomes on Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from contracts import topics
from services.domain.address import Allowances
from services.infrastructure.consuming import Consumer
from services.infrastructure.kafka import security_options
from services.infrastructure.postgres import migrate, pool_of
from services.infrastructure.settings import Settings, SettingsError
from services.infrastructure.vault import KeyRing
from services.invoker.call import Caller
from services.invoker.dispatch import Dispatcher
from services.invoker.ingest import Ingest
from services.invoker.knowledge import learn_events, learn_signatures
from services.invoker.outbox import Publisher
from services.invoker.pace import Pace
from services.invoker.recording import Recorder
from services.invoker.resolving import addresses_behind
from services.invoker.results import Recorded
from services.invoker.sweeping import Sweeper
from services.invoker.waiting import EventLog, Waiting

log = logging.getLogger(__name__)

NAME = "switchboard.invoker"
_FILES = 65_536
_RECORDS_AT_ONCE = 192
"""Fewer than half of the slots, so that all get one soon: what waits for one waits on Kafka."""
MIGRATIONS = Path(__file__).with_name("migrations")


async def run(
    settings: Settings,
    *,
    ready: Callable[[], None],
    on_step: Callable[[str], None] = lambda _: None,
    pace: Pace | None = None,
) -> None:
    """Invokes until cancelled; outlives its broker and database. Raises `SettingsError`.

    ``on_step`` is told each step of a delivery by name: ``ingested`` (before its commit), ``leased`` (after it) or
    ``claimed``, ``called``, ``recorded``.
    """
    _collect_garbage_rarely()
    open_many_connections()
    keyring = KeyRing.parse(settings.keyring)
    own = settings.own_addresses()
    try:
        allowances = Allowances.parse(settings.invoker_allow, never=[*own, *await addresses_behind(own)])
    except ValueError as error:
        raise SettingsError(f"SWITCHBOARD_INVOKER_ALLOW cannot be used: {error}") from None
    pace = pace or Pace.of(settings)
    pool = await pool_of(settings, size=20, resets=False)
    await migrate(pool, "invoker", MIGRATIONS)
    bootstrap = settings.kafka_bootstrap_servers or ""
    publisher = Publisher(pool, bootstrap, security_options())
    async with Caller(allowances, pace) as caller:

        def told(recorded: Recorded) -> None:
            publisher.hold(recorded.rows, recorded.notes)
            if len(recorded.kept) > len(recorded.rows):
                publisher.look()

        recorder = Recorder(pool, pace, told, on_step)
        dispatcher = Dispatcher(pool, caller, keyring, recorder, pace, on_step)

        def changed() -> None:
            dispatcher.wake.set()
            publisher.look()

        ingest = Ingest(dispatcher, pace, on_step)
        consumer = Consumer(
            settings,
            pool,
            NAME,
            {
                topics.EVENTS.name: learn_events,
                topics.SIGNATURES.name: learn_signatures,
                topics.INVOCATION_REQUESTS.name: ingest.take,
            },
            changed,
            _RECORDS_AT_ONCE,
        )
        events = EventLog(bootstrap, security_options())
        sweeper = Sweeper(pool, pace, recorder.tallies, changed)
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (
                    lambda: _dispatch(dispatcher, recorder),
                    publisher.run,
                    Waiting(pool, events, NAME, pace, changed).run,
                    sweeper.run,
                ):
                    tasks.create_task(_for_ever(work))
                # What is in the database is called while the broker is away or the group waits for a lost member.
                try:
                    await consumer.start()
                    ready()
                    await asyncio.Event().wait()
                finally:  # first of all: what it leases is called to the end
                    await consumer.stop()
        finally:
            await events.close()
            await pool.close()


def _collect_garbage_rarely() -> None:
    """What a call allocates is freed without the collector, which by its defaults costs an eighth of a call's time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def open_many_connections() -> None:
    """Connections are kept alive a while after each call: to many hosts they are more than the usual 1,024 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _for_ever(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A fault of ours in one part of the work is said aloud, and stops neither that part nor the others for long."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("a part of the invoker failed; it starts again")
            await asyncio.sleep(1)


async def _dispatch(dispatcher: Dispatcher, recorder: Recorder) -> None:
    """Calls, and records until the last call that was in flight at the end is recorded too."""
    recording = asyncio.create_task(recorder.run())
    try:
        await dispatcher.run()
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await recorder.drained()
        recording.cancel()
