"""Fault rounds for the read models.

Each round sends random commands, injects a fault, and checks the read models at that moment and once all is applied:
the settings are the fold of the log up to their checkpoints, the history has every event once, the catalogue has the
intents of that fold, and no partition's sequence has a gap.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.kafka.publisher import OutcomeTimeout, Publisher
from projections import catalogue, history, settings
from projections.catalogue import queries as catalogue_queries
from services.audit.log.recorded_event import open_systems
from services.domain.state import ChannelState
from services.infrastructure.checkpoints import next_offsets
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from services.infrastructure.postgres import OUTAGES, Pool, pool_of
from tests.faults.judge import judge
from tests.installation import Installation, fresh, run_apart
from tests.read_models import assert_equals_fold, folded, load, until_caught_up

SETTLE_TIMEOUT_S = 90.0
OUTCOME_TIMEOUT_S = 90.0
"""A killed broker takes long to come back on a busy machine."""

_COMMANDS = 250
_SESSION_TIMEOUT_S = 10.0
"""The session timeout of the consumer group."""


@dataclass
class Testbed:
    """An installation with embedded servers of its own."""

    __test__ = False  # a name that begins with Test is no test class

    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres
    installation: Installation
    rng: random.Random

    async def pause(self) -> None:
        await asyncio.sleep(self.rng.uniform(0.1, 1.0))


@contextmanager
def open_testbed(directory: Path, seed: int) -> Iterator[Testbed]:
    with (
        EmbeddedKafka(directory / "kafka") as kafka,
        EmbeddedPostgres(directory / "postgres", durable=False) as postgres,
        Installation(
            kafka.bootstrap_servers, postgres.dsn, directory / "installation", services=("decider", "projector")
        ) as installation,
    ):
        yield Testbed(kafka, postgres, installation, random.Random(seed))


async def _kill(testbed: Testbed) -> None:
    await asyncio.to_thread(testbed.installation.kill, "projector")
    await check_now(testbed)
    await asyncio.to_thread(testbed.installation.restart, "projector")


async def _zombie(testbed: Testbed) -> None:
    """Stops the projector until another has its partitions, and resumes it with its stale assignment."""
    process = testbed.installation.services["projector"].process
    assert process is not None
    other = testbed.installation.child("projector", fresh("-other"))
    await asyncio.to_thread(other.start)
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(_SESSION_TIMEOUT_S + 3)
    process.send_signal(signal.SIGCONT)
    await asyncio.to_thread(other.wait_until_ready)
    await testbed.pause()
    await check_now(testbed)
    await asyncio.to_thread(other.stop)
    await asyncio.to_thread(other.wait)


async def _rebalance(testbed: Testbed) -> None:
    other = testbed.installation.child("projector", fresh("-other"))
    await asyncio.to_thread(other.start)
    await asyncio.to_thread(other.wait_until_ready)
    await testbed.pause()
    if testbed.rng.random() < 0.3 and other.process is not None:
        other.process.kill()
    await asyncio.to_thread(other.stop)
    await asyncio.to_thread(other.wait)


async def _postgres(testbed: Testbed) -> None:
    await asyncio.to_thread(testbed.postgres.kill if testbed.rng.random() < 0.5 else testbed.postgres.stop)
    await testbed.pause()
    await asyncio.to_thread(testbed.postgres.start)
    await check_now(testbed)


async def _kafka(testbed: Testbed) -> None:
    await asyncio.to_thread(testbed.kafka.kill if testbed.rng.random() < 0.5 else testbed.kafka.stop)
    await testbed.pause()
    await asyncio.to_thread(testbed.kafka.start)


async def _rebuild(testbed: Testbed) -> None:
    """Starts a rebuild, may kill it and the projector, and then lets a second rebuild finish."""
    command = [sys.executable, "-m", "services.cli", "projections", "rebuild", "settings"]
    log = testbed.installation.directory / "rebuild.log"
    with log.open("a") as output:
        rebuild = subprocess.Popen(command, env=testbed.installation.environment, stdout=output, stderr=output)  # noqa: ASYNC220
        await asyncio.sleep(testbed.rng.uniform(0.8, 4.0))
        if testbed.rng.random() < 0.6:
            rebuild.kill()
        if testbed.rng.random() < 0.3:
            await asyncio.to_thread(testbed.installation.kill, "projector")
            await asyncio.to_thread(testbed.installation.restart, "projector")
        await asyncio.to_thread(rebuild.wait)
        await check_now(testbed)
        second = await asyncio.to_thread(
            subprocess.run, command, env=testbed.installation.environment, capture_output=True, text=True, check=False
        )
    assert second.returncode == 0, second.stderr


FAULTS: dict[str, Callable[[Testbed], Awaitable[None]]] = {
    "postgres": _postgres,
    "rebalance": _rebalance,
    "rebuild": _rebuild,
    "kill": _kill,
    "kafka": _kafka,
    "zombie": _zombie,
}


async def check_now(testbed: Testbed) -> None:
    """Checks invariant 6 for each read model at its current checkpoints."""
    pool = await pool_of(testbed.installation.settings, size=2)
    try:
        await assert_equals_fold(pool, testbed.installation.bootstrap_servers)
        await check_other_models(pool, testbed.installation.bootstrap_servers)
    finally:
        await pool.close()


async def check_settled(testbed: Testbed, pool: Pool) -> None:
    """Checks every read model once all events are applied."""
    cut = await assert_equals_fold(pool, testbed.installation.bootstrap_servers)
    for name in (history.NAME, catalogue.NAME):
        await _until_read(pool, name, cut.read_to)
    await check_other_models(pool, testbed.installation.bootstrap_servers)
    total = await pool.fetchval("SELECT sum(sequence) FROM switchboard.checkpoints WHERE consumer = $1", settings.NAME)
    assert total == sum(one.version for one in cut.settings.values()), (
        "a partition's sequence is not its number of events"
    )


async def check_other_models(pool: Pool, bootstrap_servers: str) -> None:
    """The history has every event once, and the catalogue the intents of the fold."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        read_to = {name: await next_offsets(connection, name) for name in (history.NAME, catalogue.NAME)}
        rows = await connection.fetch(
            "SELECT channel, count(*) AS events, max(version) AS version FROM history.entries "
            "WHERE topic = 'events' GROUP BY channel"
        )
        intents = await catalogue_queries.find(connection, None, limit=1_000_000)
    states = await folded(bootstrap_servers, read_to[history.NAME])
    in_history = {row["channel"]: (row["events"], row["version"]) for row in rows}
    versions = {channel: state.channel.version for channel, state in states.items() if state.channel is not None}
    assert in_history == {channel: (version, version) for channel, version in versions.items()}, "the history has gaps"
    in_catalogue = {
        (one["channel"], one["business_system"], one["code"]): (one["name"], tuple(one["templates"])) for one in intents
    }
    states = await folded(bootstrap_servers, read_to[catalogue.NAME])
    assert in_catalogue == _intents(states), "the catalogue is not the fold's"


def _intents(states: dict[str, ChannelState]) -> dict[tuple[str, str, str], tuple[str, tuple[str, ...]]]:
    """Of channels that are not retired: then no button can call anything of them."""
    return {
        (channel, system, code): (intent.name, intent.templates)
        for channel, state in states.items()
        if state.channel is not None and not state.channel.retired
        for system, record in open_systems(state).items()
        for code, intent in record.intents.items()
    }


async def _until_read(pool: Pool, name: str, read_to: dict[int, int]) -> None:
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        while True:
            checkpoints = await next_offsets(pool, name)
            if all(checkpoints.get(partition, 0) >= end for partition, end in read_to.items()):
                return
            await asyncio.sleep(0.1)


async def play(testbed: Testbed, fault: str) -> int:
    """Plays a round; returns how many commands were accepted. Raises AssertionError if an invariant does not hold."""
    channels = [fresh("ch") for _ in range(10)]
    async with Publisher(testbed.installation.bootstrap_servers, source="faults", account="acme") as publisher:
        loading = asyncio.create_task(
            load(publisher, testbed.rng, channels, _COMMANDS, at_once=20, timeout=OUTCOME_TIMEOUT_S)
        )
        await testbed.pause()
        await FAULTS[fault](testbed)
        accepted = await loading
        versions = {}
        for channel in channels:
            outcome = await publisher.send_raw(
                "ToggleSms", {"enabled": True}, channel=channel, timeout=OUTCOME_TIMEOUT_S
            )
            versions[channel] = outcome.version or 0
    pool = await pool_of(testbed.installation.settings, size=2)
    try:
        await until_caught_up(pool, versions, timeout=SETTLE_TIMEOUT_S)
        await check_settled(testbed, pool)
    finally:
        await pool.close()
    return accepted


def play_rounds(rounds: int, seed: int, faults: Sequence[str], directory: Path) -> int:
    """Plays rounds with the faults in turn and prints a line for each; stops at the first violation, returns 0 or 1."""
    with open_testbed(directory, seed) as testbed:
        for number in range(rounds):
            name, started = faults[number % len(faults)], time.monotonic()
            violated = False
            try:
                verdict = f"holds, {run_apart(play(testbed, name))} commands accepted"
            except (AssertionError, TimeoutError, OutcomeTimeout, *OUTAGES) as error:
                violated = True
                verdict = f"VIOLATED: {type(error).__name__}: {str(error)[:2_000]}"
            print(f"{number:4} {name:32} {time.monotonic() - started:5.1f} s  {verdict}", flush=True)
            if violated:
                return 1  # every later round on this log would find the violation again
        # Over the read models that went through the faults.
        found = judge(
            testbed.kafka.bootstrap_servers,
            testbed.postgres.dsn,
            directory / "judged",
            services=("gateway",),
            partitions=testbed.installation.settings.partitions,
            seed=seed,
        )
    return 1 if found else 0
