"""Fault rounds for the read models: ``python -m tests.faults.projector_rounds --rounds N --seed S``.

Each round loads random commands, lets something die, and judges what is left, at that moment and when all is applied:
the settings are the fold of the log up to their checkpoints, the history has every event once, the catalogue has the
intents of that fold, and no partition's count has a gap.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.publisher import OutcomeTimeout, Publisher
from projections import catalogue, history
from projections.places import places_of
from services.audit.history import systems_of
from services.domain.state import ChannelState
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from services.infrastructure.postgres import OUTAGES, Pool, pool_of
from services.infrastructure.telemetry import set_up_logging
from tests.installation import Installation, fresh, run_apart
from tests.read_models import assert_equals_fold, folded, load, until_caught_up

SETTLES_WITHIN_S = 90.0
ANSWER_S = 90.0
"""A broker that was killed takes its time to come back, on a busy machine above all."""

_COMMANDS = 250
_SESSION_S = 10.0
"""So long the group waits for a member that is silent."""


@dataclass
class World:
    """A Switchboard that may be struck; what is embedded is its own."""

    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres
    running: Installation
    chance: random.Random

    async def pause(self) -> None:
        await asyncio.sleep(self.chance.uniform(0.1, 1.0))


@contextmanager
def world(directory: Path, seed: int) -> Iterator[World]:
    with (
        EmbeddedKafka(directory / "kafka") as kafka,
        EmbeddedPostgres(directory / "postgres", durable=False) as postgres,
        Installation(
            kafka.bootstrap_servers, postgres.dsn, directory / "installation", services=("decider", "projector")
        ) as running,
    ):
        yield World(kafka, postgres, running, random.Random(seed))


async def _kill(made: World) -> None:
    await asyncio.to_thread(made.running.kill, "projector")
    await judge_now(made)
    await asyncio.to_thread(made.running.restart, "projector")


async def _zombie(made: World) -> None:
    """The projector stands still until another has its partitions, and goes on with its old belief."""
    process = made.running.services["projector"].process
    assert process is not None
    other = made.running.child("projector", fresh("-other"))
    await asyncio.to_thread(other.start)
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(_SESSION_S + 3)
    process.send_signal(signal.SIGCONT)
    await asyncio.to_thread(other.wait_until_ready)
    await made.pause()
    await judge_now(made)
    await asyncio.to_thread(other.stop)
    await asyncio.to_thread(other.wait)


async def _rebalance(made: World) -> None:
    other = made.running.child("projector", fresh("-other"))
    await asyncio.to_thread(other.start)
    await asyncio.to_thread(other.wait_until_ready)
    await made.pause()
    if made.chance.random() < 0.3 and other.process is not None:
        other.process.kill()
    await asyncio.to_thread(other.stop)
    await asyncio.to_thread(other.wait)


async def _postgres(made: World) -> None:
    await asyncio.to_thread(made.postgres.kill if made.chance.random() < 0.5 else made.postgres.stop)
    await made.pause()
    await asyncio.to_thread(made.postgres.start)
    await judge_now(made)


async def _kafka(made: World) -> None:
    await asyncio.to_thread(made.kafka.kill if made.chance.random() < 0.5 else made.kafka.stop)
    await made.pause()
    await asyncio.to_thread(made.kafka.start)


async def _rebuild(made: World) -> None:
    """A rebuild that is killed, or not, while the projector is killed, or not; and one that ends."""
    command = [sys.executable, "-m", "services.cli", "projections", "rebuild", "settings"]
    log = made.running.directory / "rebuild.log"
    with log.open("a") as output:
        first = subprocess.Popen(command, env=made.running.environment, stdout=output, stderr=output)  # noqa: ASYNC220
        await asyncio.sleep(made.chance.uniform(0.8, 4.0))
        if made.chance.random() < 0.6:
            first.kill()
        if made.chance.random() < 0.3:
            await asyncio.to_thread(made.running.kill, "projector")
            await asyncio.to_thread(made.running.restart, "projector")
        await asyncio.to_thread(first.wait)
        await judge_now(made)
        done = await asyncio.to_thread(
            subprocess.run, command, env=made.running.environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr


FAULTS: dict[str, Callable[[World], Awaitable[None]]] = {
    "postgres": _postgres,
    "rebalance": _rebalance,
    "rebuild": _rebuild,
    "kill": _kill,
    "kafka": _kafka,
    "zombie": _zombie,
}


async def judge_now(made: World) -> None:
    """Invariant 6 at this moment, whatever is applied: of each read model, at its own checkpoints."""
    pool = await pool_of(made.running.settings, size=2)
    try:
        await assert_equals_fold(pool, made.running.bootstrap_servers)
        await _judge_others(pool, made.running.bootstrap_servers)
    finally:
        await pool.close()


async def judge_settled(made: World, pool: Pool) -> None:
    """Every read model, when nothing more comes."""
    cut = await assert_equals_fold(pool, made.running.bootstrap_servers)
    for name in (history.NAME, catalogue.NAME):
        await _until_read(pool, name, cut.read_to)
    await _judge_others(pool, made.running.bootstrap_servers)
    total = await pool.fetchval("SELECT sum(sequence) FROM settings.positions")
    assert total == sum(one.version for one in cut.settings.values()), "a partition's count is not that of its events"


async def _judge_others(pool: Pool, bootstrap_servers: str) -> None:
    """The history has every event once, and the catalogue the intents of the fold."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        read_to = {
            name: {number: place.offset for number, place in (await places_of(connection, name)).items()}
            for name in (history.NAME, catalogue.NAME)
        }
        rows = await connection.fetch(
            "SELECT channel, count(*) AS events, max(version) AS version FROM history.entries "
            "WHERE topic = 'events' GROUP BY channel"
        )
        shown = await catalogue.find(connection, None, limit=1_000_000)
    states = await folded(bootstrap_servers, read_to[history.NAME])
    entered = {row["channel"]: (row["events"], row["version"]) for row in rows}
    versions = {channel: state.channel.version for channel, state in states.items() if state.channel is not None}
    assert entered == {channel: (version, version) for channel, version in versions.items()}, "the history has gaps"
    known = {
        (one["channel"], one["business_system"], one["code"]): (one["name"], tuple(one["templates"])) for one in shown
    }
    states = await folded(bootstrap_servers, read_to[catalogue.NAME])
    assert known == _intents(states), "the catalogue is not the fold's"


def _intents(states: dict[str, ChannelState]) -> dict[tuple[str, str, str], tuple[str, tuple[str, ...]]]:
    return {
        (channel, system, code): (intent.name, intent.templates)
        for channel, state in states.items()
        for system, record in systems_of(state).items()
        for code, intent in record.intents.items()
    }


async def _until_read(pool: Pool, name: str, read_to: dict[int, int]) -> None:
    async with asyncio.timeout(SETTLES_WITHIN_S):
        while True:
            rows = await pool.fetch(
                "SELECT partition, next_offset FROM switchboard.checkpoints WHERE consumer = $1 AND topic LIKE $2",
                name,
                "%events",
            )
            stands = {row["partition"]: row["next_offset"] for row in rows}
            if all(stands.get(partition, 0) >= end for partition, end in read_to.items()):
                return
            await asyncio.sleep(0.1)


async def play(made: World, fault: str) -> int:
    """A round; returns how many commands were accepted. Raises AssertionError where an invariant does not hold."""
    channels = [fresh("ch") for _ in range(10)]
    async with Publisher(made.running.bootstrap_servers, source="faults", account="acme") as publisher:
        loading = asyncio.create_task(load(publisher, made.chance, channels, _COMMANDS, at_once=20, timeout=ANSWER_S))
        await made.pause()
        await FAULTS[fault](made)
        accepted = await loading
        versions = {}
        for channel in channels:
            outcome = await publisher.send_raw("ToggleSms", {"enabled": True}, channel=channel, timeout=ANSWER_S)
            versions[channel] = outcome.version or 0
    pool = await pool_of(made.running.settings, size=2)
    try:
        await until_caught_up(pool, versions, timeout=SETTLES_WITHIN_S)
        await judge_settled(made, pool)
    finally:
        await pool.close()
    return accepted


def rounds(names: Sequence[str], count: int, seed: int, directory: Path) -> int:
    """Plays them, a line each; returns how many did not hold."""
    broken = 0
    with world(directory, seed) as made:
        for number in range(count):
            name, begun = names[number % len(names)], time.monotonic()
            try:
                accepted = run_apart(play(made, name))
                verdict = f"holds, {accepted} commands accepted"
            except (AssertionError, TimeoutError, OutcomeTimeout, *OUTAGES) as error:
                broken += 1
                verdict = f"VIOLATION: {type(error).__name__}: {str(error)[:2_000]}"
            print(f"{number:4} {name:10} {time.monotonic() - begun:6.1f} s  {verdict}", flush=True)
            if broken:
                break  # what is on this log would be found again by every round after it
    print(f"{count} rounds with seed {seed}: {broken or 'no'} violations")
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults.projector_rounds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", choices=FAULTS, action="append")
    parser.add_argument("--keep", type=Path, help="a directory in which everything is left to be looked at")
    arguments = parser.parse_args()
    set_up_logging()
    with tempfile.TemporaryDirectory(prefix="switchboard-projector-") as temporary:
        directory = arguments.keep or Path(temporary)
        return 1 if rounds(arguments.fault or list(FAULTS), arguments.rounds, arguments.seed, directory) else 0


if __name__ == "__main__":
    sys.exit(main())
