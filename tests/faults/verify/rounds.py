"""Rounds of ``audit verify --database`` while everything moves: commands, restarts, rebuilds. None may find anything.

A round is one run of the check (in this process: a command of its own would mostly import), with one disturbance at a
random moment of it.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from contracts.kafka.publisher import OutcomeTimeout, PublisherError
from services.audit.log.kafka_log import KafkaLog
from services.audit.verification.read_model_snapshot import read_model_snapshot
from services.audit.verification.verify import Report, verify
from services.infrastructure.postgres import pool_of
from services.projector.models import READ_MODELS
from tests.faults.projector.rounds import Testbed, open_testbed
from tests.installation import fresh
from tests.read_models import load

_COMMAND_TIMEOUT_S = 180
_RECENT_CHANNELS = 12


async def _nothing(_: Testbed) -> None:
    pass


async def _restart_projector(testbed: Testbed) -> None:
    await asyncio.to_thread(testbed.installation.kill, "projector")
    await asyncio.to_thread(testbed.installation.restart, "projector")


async def _restart_decider(testbed: Testbed) -> None:
    await asyncio.to_thread(testbed.installation.kill, "decider")
    await asyncio.to_thread(testbed.installation.restart, "decider")


async def _rebuild(testbed: Testbed) -> None:
    """Not waited for by the command, but by the next round."""
    arguments = ("projections", "rebuild", testbed.rng.choice(list(READ_MODELS)))
    done = await _switchboard(testbed, *arguments)
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}"


FAULTS: dict[str, Callable[[Testbed], Awaitable[None]]] = {
    "nothing": _nothing,
    "rebuild": _rebuild,
    "restart-projector": _restart_projector,
    "restart-decider": _restart_decider,
}


async def _switchboard(testbed: Testbed, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "services.cli", *arguments],
        env=testbed.installation.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_COMMAND_TIMEOUT_S,
    )


async def play(testbed: Testbed, fault: str) -> str:
    """What was compared. Raises AssertionError where it found anything."""
    disturbing = asyncio.create_task(_disturb(testbed, fault))
    try:
        reports = [await _verify(testbed)]
        while not disturbing.done():
            reports.append(await _verify(testbed))
    finally:
        await disturbing
    findings = [str(finding) for report in reports for finding in report.findings]
    assert not findings, f"a false alarm: {'; '.join(findings[:5])}"
    last = reports[-1]
    return (
        f"{len(reports)} runs, {last.events} events, {last.compared_settings} channels, {last.compared_history} entries"
    )


async def _disturb(testbed: Testbed, fault: str) -> None:
    await asyncio.sleep(testbed.rng.uniform(0, 0.5))
    await FAULTS[fault](testbed)


async def _verify(testbed: Testbed) -> Report:
    """As the command does it: the read models first, then the log."""
    pool = await pool_of(testbed.installation.settings, size=1)
    try:
        async with (
            read_model_snapshot(pool, time.time_ns() // 1_000_000) as read_models,
            KafkaLog(testbed.kafka.bootstrap_servers, {}) as log,
        ):
            return await verify(log, read_models=read_models)
    finally:
        await pool.close()


async def _send_commands(testbed: Testbed, stop: asyncio.Event) -> None:
    dice = random.Random(testbed.rng.random())
    channels: list[str] = []
    while not stop.is_set():
        channels = [*channels, fresh("ch")][-_RECENT_CHANNELS:]
        try:
            async with testbed.installation.publisher("acme") as publisher:
                await load(publisher, dice, channels, 60, at_once=4, timeout=60, instants=True)
        except (OutcomeTimeout, PublisherError):
            await asyncio.sleep(0.5)


async def _play_rounds(testbed: Testbed, rounds: int, faults: Sequence[str]) -> int:
    stop = asyncio.Event()
    sending = asyncio.create_task(_send_commands(testbed, stop))
    failed = 0
    try:
        for number in range(rounds):
            name, started = faults[number % len(faults)], time.monotonic()
            try:
                verdict = f"holds: {await play(testbed, name)}"
            except AssertionError as error:
                failed += 1
                verdict = f"VIOLATED: {str(error)[:2_000]}"
            print(f"{number:4} {name:32} {time.monotonic() - started:5.1f} s  {verdict}", flush=True)
    finally:
        stop.set()
        await sending
    return failed


def play_rounds(rounds: int, seed: int, faults: Sequence[str], directory: Path) -> int:
    """Plays rounds with the faults in turn and prints a line for each; returns how many found something."""
    with open_testbed(directory, seed) as testbed:
        return asyncio.run(_play_rounds(testbed, rounds, faults))
