"""Fault rounds for the subscriber: kills it again and again while commands are sent.

``switchboard follow`` runs as a process of its own, is killed at a random moment, and is started again with the cursor
of its last complete line. At the end each event must have been seen once, in order per channel, with none missing.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from contracts.kafka.subscriber import Subscriber
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from tests.faults.judge import judge
from tests.installation import Installation, fresh
from tests.read_models import load
from tests.streams import all_changes, assert_each_once_in_order

_COMMANDS_PER_LOAD = 200


async def play(installation: Installation, kills: int, seed: int) -> None:
    account, rng = fresh("acct"), random.Random(seed)
    async with Subscriber(installation.bootstrap_servers).changes("now") as changes:
        cursor = changes.cursor
    seen: list[tuple[str, int]] = []
    stop = asyncio.Event()

    async def send_commands() -> None:
        async with installation.publisher(account) as publisher:
            while not stop.is_set():
                await load(publisher, rng, [fresh("ch") for _ in range(4)], _COMMANDS_PER_LOAD, at_once=2)

    sending = asyncio.create_task(send_commands())
    for number in range(kills):
        command = [sys.executable, "-m", "services.cli", "follow", "--account", account, "--cursor", cursor]
        process = subprocess.Popen(command, env=installation.environment, stdout=subprocess.PIPE)  # noqa: ASYNC220
        assert process.stdout is not None
        first = await asyncio.to_thread(process.stdout.readline)
        await asyncio.sleep(rng.uniform(0, 0.3))
        process.kill()
        remaining = await asyncio.to_thread(process.stdout.read)
        for line in (first + remaining).splitlines(keepends=True):
            if line.endswith(b"\n"):
                event = json.loads(line)
                seen.append((event["subject"], event["sequence"]))
                cursor = event["cursor"]
        process.stdout.close()
        process.wait()
        if number % 10 == 9:
            print(f"{number + 1} kills, {len(seen)} events", flush=True)
    stop.set()
    await sending
    rest = Subscriber(installation.bootstrap_servers).changes(cursor, account=account, endless=False)
    seen += [(change.event.subject, change.event.sequence) async for change in rest]
    assert_each_once_in_order(seen, await all_changes(installation, account))
    print(f"{kills} kills with seed {seed}: {len(seen)} events, each once and in order")


def play_rounds(rounds: int, seed: int, faults: Sequence[str], directory: Path) -> int:  # noqa: ARG001 -- one fault
    """Kills the subscriber ``rounds`` times; returns 1 if an event is missing, repeated or out of order, else 0."""
    with (
        EmbeddedKafka(directory / "kafka") as kafka,
        EmbeddedPostgres(directory / "postgres", durable=False) as postgres,
        Installation(kafka.bootstrap_servers, postgres.dsn, directory, services=("decider",)) as installation,
    ):
        try:
            asyncio.run(play(installation, rounds, seed))
        except AssertionError as error:
            print(f"VIOLATED: {error}", flush=True)
            return 1
        found = judge(
            kafka.bootstrap_servers,
            postgres.dsn,
            directory / "judged",
            services=("projector", "gateway"),
            partitions=installation.settings.partitions,
            seed=seed,
        )
    return 1 if found else 0
