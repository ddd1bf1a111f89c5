"""``python -m tests.attacks``: the second tenant's p99 alone and beside each attack, and each service's memory."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import psutil

from tests.attacks.attacks import ATTACKS
from tests.attacks.neighbour import KINDS, Latencies, Neighbour
from tests.installation import Installation, fresh, fresh_database
from tests.servers import servers

MAX_RATIO = 3.0
MAX_MEMORY_MIB = 300
_WARM_UP_S = 3.0


def memory_mib(installation: Installation) -> dict[str, int]:
    """The resident memory of each service now."""
    processes = {name: child.process for name, child in installation.services.items()}
    return {
        name: psutil.Process(process.pid).memory_info().rss // 2**20
        for name, process in processes.items()
        if process is not None
    }


async def measure(installation: Installation, name: str | None, seconds: float) -> tuple[Latencies, dict[str, int]]:
    """The neighbour's latencies beside an attack, and the most memory that each service had meanwhile."""
    most = memory_mib(installation)

    async def watch() -> None:
        while True:
            for service, mib in memory_mib(installation).items():
                most[service] = max(most[service], mib)
            await asyncio.sleep(0.25)

    async with Neighbour(installation) as neighbour, contextlib.AsyncExitStack() as stack:
        tasks = [asyncio.create_task(watch())]
        if name is not None:
            await stack.enter_async_context(attack(installation, name))
        await asyncio.sleep(_WARM_UP_S)
        found = await neighbour.work(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found, most


@contextlib.asynccontextmanager
async def attack(installation: Installation, name: str) -> AsyncIterator[None]:
    """Runs an attack in a process of its own, so that it takes no time of whoever measures."""
    account, channel = fresh("attacker"), fresh("ch")
    async with installation.api(None, **{"Switchboard-Account": account}) as platform:
        registration = {"channel_type": "whatsapp", "name": "Evil", "enterprise_authenticated": True}
        await platform("PUT", f"channels/{channel}", registration)
    given = {
        "name": name,
        "address": installation.address,
        "key": installation.api_key(account),
        "receiver_port": installation.receiver_port(),
        "account": account,
        "channel": channel,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.attacks.attacks", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(given).encode() + b"\n")
        assert await process.stdout.readline() == b"attacking\n"
        yield
    finally:
        process.kill()
        await process.wait()


def _line(name: str, found: Latencies, alone: Latencies, memory: dict[str, int]) -> str:
    cells = []
    for kind in KINDS:
        ratio = found.p99(kind) / alone.p99(kind)
        cells.append(f"{found.p99(kind) * 1000:7.0f} ms {ratio:5.1f}x")
    fullest = max(memory, key=lambda service: memory[service])
    return f"{name:26} {'  '.join(cells)}  {fullest} {memory[fullest]} MiB  {len(found.failures)} failed"


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    options.add_argument("--attack", choices=ATTACKS, action="append", help="one attack; all unless given")
    options.add_argument("--seconds", type=float, default=15.0, help="how long each is measured")
    given = options.parse_args()
    over = []
    with tempfile.TemporaryDirectory() as directory, servers(Path(directory) / "servers") as own:
        installation = Path(directory) / "installation"
        with Installation(own.bootstrap_servers, fresh_database(own.dsn), installation, receivers=64) as running:
            alone, memory = asyncio.run(measure(running, None, given.seconds))
            print(f"{'p99 of each':26} {'  '.join(f'{kind:16}' for kind in KINDS)}")
            print(_line("alone", alone, alone, memory), flush=True)
            for name in given.attack or ATTACKS:
                found, memory = asyncio.run(measure(running, name, given.seconds))
                print(_line(name, found, alone, memory), flush=True)
                for failure in found.failures[:3]:
                    print(f"    {failure}", flush=True)
                over += [f"{name}: {kind}" for kind in KINDS if not found.p99(kind) <= MAX_RATIO * alone.p99(kind)] + [
                    f"{name}: {service}'s memory" for service, mib in memory.items() if mib > MAX_MEMORY_MIB
                ]
    print(f"over {MAX_RATIO:g}x or {MAX_MEMORY_MIB} MiB: {', '.join(over) or 'none'}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
