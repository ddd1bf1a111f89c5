"""Fault rounds for the message router.

Each round sends settings, pool reports, requests and statuses, injects a fault, waits until everything has an answer,
and checks the topics: `checker.py`, `recheck.py` and `privacy.py` hold the invariants 12 to 17 of the specification.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

from tests.faults.message_router.checker import Switches, check, rollup_violations
from tests.faults.message_router.facts import facts_of
from tests.faults.message_router.log import read_log
from tests.faults.message_router.privacy import numbers_elsewhere, numbers_in_files
from tests.faults.message_router.process import STEPS, ProcessOptions, Sabotage, Step
from tests.faults.message_router.recheck import decided_otherwise, handed_out_twice
from tests.faults.message_router.settled import SETTLE_TIMEOUT_S, Violation, wait_until_settled
from tests.faults.message_router.testbed import Testbed, open_testbed
from tests.faults.message_router.traffic import CONTENTIONS_AT_S, Plan, Traffic

ROUNDS_ON_ONE_BROKER = 25
CONTROL_ROUNDS = 5

Fault = Literal[
    "kill",
    "two",
    "zombie",
    "down",
    "postgres-kill",
    "postgres-restart",
    "kafka-kill",
    "kafka-restart",
    "clock",
    "database-lost",
    "database-older",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
CONTROLS: dict[Sabotage, tuple[Fault, Step]] = {
    "no-fence": ("zombie", "publishing"),
    "no-lock": ("two", "loaded"),
    "new-usage-id": ("two", "loaded"),
    "forgotten-timer": ("kill", "timed"),
    "blind-fallback": ("down", "loaded"),
    "old-switch": ("down", "loaded"),
    "no-restore": ("database-lost", "loaded"),
}
"""The fault by which the absence of a safeguard shows."""
_MIN_OCCURRENCES: dict[Step, int] = {
    "loaded": 3,
    "ingested": 3,
    "committed": 3,
    "timed": 2,
    "fenced": 2,
    "publishing": 3,
    "sent": 3,
    "published": 3,
}
"""How often a round reaches each step, at least."""


class Round(NamedTuple):
    """The plan of a round. ``sabotage`` is done to each router of it."""

    number: int
    fault: Fault
    step: Step
    times: int
    delay_s: float
    rng: random.Random
    sabotage: Sabotage | None = None

    @classmethod
    def generate(cls, number: int, seed: int | str, fault: Fault, step: Step | None = None) -> Round:
        rng = random.Random(f"{seed}/{number}")
        chosen = step or STEPS[number // len(FAULTS) % len(STEPS)]
        return cls(number, fault, chosen, rng.randint(1, _MIN_OCCURRENCES[chosen]), rng.uniform(0, 2), rng)

    def options(self, **more: Any) -> ProcessOptions:
        return ProcessOptions(sabotage=self.sabotage, **more)


async def play(
    testbed: Testbed, turn: Round, messages: int = 60, contentions: Sequence[float] = CONTENTIONS_AT_S
) -> str:
    """Plays a round and checks the invariants; returns what was checked. Raises `Violation`."""
    traffic = Traffic(turn.rng, testbed.installation.settings.partitions, testbed.round)
    testbed.round, testbed.switched = testbed.round + 1, traffic.plan.channels[0]
    versions: dict[str, int] = {}
    for channel, kind, data in traffic.settings():
        versions[channel] = await testbed.command(traffic.plan.account, channel, kind, data)
    plan = traffic.build(versions, messages, contentions)
    testbed.numbers |= plan.numbers
    switches = Switches()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_FAULTS[turn.fault](testbed, turn))
            await testbed.until_a_router_runs()
            tasks.create_task(testbed.send(plan.records))
            tasks.create_task(_settings_change(testbed, plan, switches, stays_off=turn.fault == "down"))
        await wait_until_settled(testbed, plan)
    finally:
        await testbed.stop_routers()
    return await _check(testbed, turn, plan, switches)


async def _settings_change(testbed: Testbed, plan: Plan, switches: Switches, *, stays_off: bool) -> None:
    """Another rate book, and SMS off on the first channel: for a while, or for good once the router is down."""
    await asyncio.sleep(plan.switch_off_at_s)
    await testbed.apply_rate_book()
    if stays_off:
        await asyncio.to_thread(testbed.routers[0].process.wait)
    off = await testbed.switch(plan, on=False)
    if stays_off:
        switches.off[plan.channels[0]] = [(off, math.inf)]
        return
    await asyncio.sleep(5)
    switches.off[plan.channels[0]] = [(off, await testbed.switch(plan, on=True))]


async def _check(testbed: Testbed, turn: Round, plan: Plan, switches: Switches) -> str:
    log = await read_log(testbed.kafka.bootstrap_servers, testbed.installation.settings.partitions)
    facts = facts_of(log, plan.account, plan.channels)
    clocks_agree = turn.fault not in ("clock", "zombie")  # a stopped process tells late what it decided before
    violations = check(log, facts, switches if clocks_agree else Switches())
    violations += [*decided_otherwise(log, facts)]
    violations += handed_out_twice(log, facts, plan.resources, clocks_agree=turn.fault != "clock")
    charges = [one for message in facts.messages.values() for one in message.charges]
    usage = await testbed.rows("SELECT * FROM message_router.usage WHERE account = $1", plan.account)
    violations += rollup_violations(charges, usage)
    violations += await numbers_elsewhere(testbed, log, plan.numbers)
    if violations:
        raise Violation(f"{len(violations)}: " + "; ".join(violations[:10]))
    routed = [message for message in facts.messages.values() if message.routed is not None]
    due = sum(len(message.of("SmsFallbackDue")) for message in routed)
    return f"{len(routed)} routed, {len(charges)} charged, {due} fallbacks"


async def _kill(testbed: Testbed, turn: Round) -> None:
    router = testbed.router(turn.options(step=turn.step, count=turn.times))
    await asyncio.wait_for(router.signalled.wait(), SETTLE_TIMEOUT_S)
    await asyncio.to_thread(router.process.wait)
    testbed.router(turn.options())


async def _two(testbed: Testbed, turn: Round) -> None:
    """Two routers share the partitions; one is killed at a step, and another comes in its place."""
    testbed.router(turn.options())
    second = testbed.router(turn.options(step=turn.step, count=turn.times))
    await asyncio.sleep(4 + turn.delay_s)
    second.process.kill()
    testbed.router(turn.options())


async def _zombie(testbed: Testbed, turn: Round) -> None:
    """Stops a router for longer than its session while another one works, and then resumes it."""
    router = testbed.router(turn.options(step=turn.step, count=turn.times, signal="SIGSTOP"))
    await asyncio.wait_for(router.signalled.wait(), SETTLE_TIMEOUT_S)
    second = testbed.router(turn.options())
    await asyncio.gather(asyncio.wait_for(second.ready.wait(), SETTLE_TIMEOUT_S), asyncio.sleep(6))
    await asyncio.sleep(4)
    router.resume()


async def _down(testbed: Testbed, turn: Round) -> None:
    """The router is down while SMS is switched off, and fallbacks of that channel become due."""
    router = testbed.router(turn.options())
    await asyncio.wait_for(router.ready.wait(), SETTLE_TIMEOUT_S)
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        while not (await testbed.rows(_ARMED, testbed.switched))[0][0]:
            await asyncio.sleep(0.1)
    router.process.kill()
    await asyncio.sleep(4)
    testbed.router(turn.options())


async def _clock(testbed: Testbed, turn: Round) -> None:
    """Two routers whose clocks differ, and jump; one is killed."""
    steps = tuple((turn.rng.uniform(1, 3), turn.rng.randint(-30_000, 30_000)) for _ in range(4))
    other = tuple((turn.rng.uniform(1, 3), turn.rng.randint(-30_000, 30_000)) for _ in range(4))
    first = testbed.router(turn.options(clock=(*steps, (1.0, 0))))
    testbed.router(turn.options(clock=(*other, (1.0, 0))))
    await asyncio.sleep(4 + turn.delay_s)
    first.process.kill()


def _server(name: Literal["postgres", "kafka"], how: Literal["kill", "restart"]) -> Any:
    async def fault(testbed: Testbed, turn: Round) -> None:
        router = testbed.router(turn.options())
        await asyncio.wait_for(router.ready.wait(), SETTLE_TIMEOUT_S)
        await asyncio.sleep(turn.delay_s)
        server = testbed.postgres if name == "postgres" else testbed.kafka
        await asyncio.to_thread(server.kill if how == "kill" else server.stop)
        await asyncio.sleep(turn.delay_s)
        await asyncio.to_thread(server.start)

    return fault


def _database(how: Literal["lost", "older"]) -> Any:
    """The database comes back empty, or as it was some seconds ago, with every router stopped; two go on."""

    async def fault(testbed: Testbed, turn: Round) -> None:
        router = testbed.router(turn.options())
        await asyncio.wait_for(router.ready.wait(), SETTLE_TIMEOUT_S)
        if how == "older":
            await asyncio.sleep(turn.delay_s)
            await testbed.stop_routers()
            await testbed.copy_database()
            testbed.router(turn.options())
        await asyncio.sleep(4 + turn.delay_s)
        for one in testbed.routers:
            one.process.kill()
        await testbed.stop_routers()
        await testbed.lose_database(copied=how == "older")
        for _ in range(2):
            testbed.router(turn.options())

    return fault


_FAULTS: dict[Fault, Callable[[Testbed, Round], Coroutine[Any, Any, None]]] = {
    "kill": _kill,
    "two": _two,
    "zombie": _zombie,
    "down": _down,
    "postgres-kill": _server("postgres", "kill"),
    "postgres-restart": _server("postgres", "restart"),
    "kafka-kill": _server("kafka", "kill"),
    "kafka-restart": _server("kafka", "restart"),
    "clock": _clock,
    "database-lost": _database("lost"),
    "database-older": _database("older"),
}

_ARMED = """
    SELECT count(*) FROM message_router.messages WHERE channel = $1 AND fallback = 'armed' AND fires_at IS NOT NULL
"""


def play_rounds(rounds: int, seed: int, faults: Sequence[str], directory: Path) -> int:
    """Plays rounds with the faults in turn and prints a line for each; returns how many were violated."""
    turns = [Round.generate(number, seed, cast("Fault", faults[number % len(faults)])) for number in range(rounds)]
    violated = 0
    for begin in range(0, rounds, ROUNDS_ON_ONE_BROKER):
        some = turns[begin : begin + ROUNDS_ON_ONE_BROKER]
        violated += len(asyncio.run(_play_rounds(some, directory / f"broker-{begin}")))
    return violated


def violations_without(control: Sabotage, seed: int, directory: Path, rounds: int = CONTROL_ROUNDS) -> list[str]:
    """The violations of routers without one safeguard; empty if the checker does not notice."""
    fault, step = CONTROLS[control]
    turns = [Round.generate(number, seed, fault, step)._replace(sabotage=control) for number in range(rounds)]
    return asyncio.run(_play_rounds(turns, directory, until_violated=True))


async def _play_rounds(turns: Sequence[Round], directory: Path, *, until_violated: bool = False) -> list[str]:
    violations = []
    async with open_testbed(directory) as testbed:
        for turn in turns:
            started = time.monotonic()
            try:
                verdict = f"holds  {await play(testbed, turn)}"
            except Violation as violation:
                violations.append(str(violation))
                verdict = f"VIOLATED: {violation}"
            fault = f"{turn.fault} at {turn.step} x{turn.times}"
            print(f"{turn.number:4} {fault:32} {time.monotonic() - started:5.1f} s  {verdict}", flush=True)
            if violations and until_violated:
                break
        leaks = await asyncio.to_thread(numbers_in_files, directory, testbed.numbers)
        print(
            f"     {len(testbed.numbers)} numbers looked for in the files: {'; '.join(leaks) or 'none found'}",
            flush=True,
        )
    return violations + leaks
