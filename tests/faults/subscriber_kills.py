"""A subscriber that is killed again and again during load: ``python -m tests.faults.subscriber_kills --kills 100``.

It is ``switchboard follow`` in a process of its own, killed by SIGKILL at a random moment, and started again with the
cursor of the last line that was whole. Judged at the end: each event once, in order per channel, none missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contracts.subscriber import Subscriber
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.telemetry import set_up_logging
from tests.installation import Installation, fresh
from tests.read_models import load
from tests.streams import all_changes, assert_each_once_in_order

_COMMANDS_A_LOAD = 200


async def play(running: Installation, kills: int, seed: int) -> None:
    account, chance = fresh("acct"), random.Random(seed)
    async with Subscriber(running.bootstrap_servers).changes("now") as place:
        cursor = place.cursor
    seen: list[tuple[str, int]] = []
    stop = asyncio.Event()

    async def keep_loading() -> None:
        async with running.publisher(account) as publisher:
            while not stop.is_set():
                await load(publisher, chance, [fresh("ch") for _ in range(4)], _COMMANDS_A_LOAD, at_once=2)

    loading = asyncio.create_task(keep_loading())
    for number in range(kills):
        command = [sys.executable, "-m", "services.cli", "follow", "--account", account, "--cursor", cursor]
        process = subprocess.Popen(command, env=running.environment, stdout=subprocess.PIPE)  # noqa: ASYNC220
        assert process.stdout is not None
        first = await asyncio.to_thread(process.stdout.readline)
        await asyncio.sleep(chance.uniform(0, 0.3))
        process.kill()
        rest_of_it = await asyncio.to_thread(process.stdout.read)
        for line in (first + rest_of_it).splitlines(keepends=True):
            if line.endswith(b"\n"):
                event = json.loads(line)
                seen.append((event["subject"], event["sequence"]))
                cursor = event["cursor"]
        process.stdout.close()
        process.wait()
        if number % 10 == 9:
            print(f"{number + 1} kills, {len(seen)} events", flush=True)
    stop.set()
    await loading
    rest = Subscriber(running.bootstrap_servers).changes(cursor, account=account, endless=False)
    seen += [(change.event.subject, change.event.sequence) async for change in rest]
    assert_each_once_in_order(seen, await all_changes(running, account))
    print(f"{kills} kills with seed {seed}: {len(seen)} events, each once and in order")


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.faults.subscriber_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    set_up_logging()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="switchboard-subscriber-") as temporary:
        directory = Path(temporary)
        with (
            EmbeddedKafka(directory / "kafka") as kafka,
            Installation(
                kafka.bootstrap_servers, "postgresql://127.0.0.1/none", directory, services=("decider",)
            ) as it,
        ):
            asyncio.run(play(it, arguments.kills, arguments.seed))
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
