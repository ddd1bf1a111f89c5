"""Fault rounds for the invoker.

Each round requests calls, injects a fault and checks what remains: every request has exactly one row, in the final
state of its system; a receiver that deduplicates on ``webhook-id`` saw each call once; each result is published once;
no lease is left; the tables hold no secret; and reading all requests again calls nobody.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from contracts import topics
from tests.faults.invoker.invariants import Violation, check, require
from tests.faults.invoker.process import STEPS, ProcessOptions, Step
from tests.faults.invoker.testbed import SYSTEMS, InvokerProcess, Testbed, open_testbed
from tests.faults.judge import judge
from tests.installation import fresh

SETTLE_TIMEOUT_S = 60.0

Fault = Literal["kill", "zombie", "postgres-kill", "postgres-restart", "kafka-kill", "kafka-restart", "two"]
FAULTS: tuple[Fault, ...] = (
    "kill",
    "zombie",
    "postgres-kill",
    "postgres-restart",
    "kafka-kill",
    "kafka-restart",
    "two",
)


_MIN_OCCURRENCES: dict[Step, int] = {"ingested": 1, "leased": 3, "claimed": 4, "called": 4, "recorded": 4}
"""How often a round reaches each step, at least."""


@dataclass(frozen=True, slots=True)
class Round:
    """The plan of a round: the fault, and ``requests`` as (id, system), one of which is published twice."""

    fault: Fault
    step: Step
    count: int
    delay_s: float
    requests: tuple[tuple[str, str], ...]

    @classmethod
    def generate(cls, rng: random.Random, fault: Fault | None = None, step: Step | None = None) -> Round:
        systems = [*SYSTEMS, *rng.choices(SYSTEMS, k=rng.randint(3, 9))]
        chosen_step = rng.choice(STEPS) if step is None else step
        return cls(
            rng.choice(FAULTS) if fault is None else fault,
            chosen_step,
            rng.randint(1, _MIN_OCCURRENCES[chosen_step]),
            rng.uniform(0, 1),
            tuple((fresh("req"), system) for system in rng.sample(systems, len(systems))),
        )


async def play(testbed: Testbed, plan: Round) -> None:
    """Plays a round and checks the invariants. Raises `Violation`."""
    running: list[InvokerProcess] = []
    try:
        await _FAULTS[plan.fault](testbed, plan, running)
        await wait_until_settled(testbed, plan)
    finally:
        await asyncio.gather(*(invoker.stop() for invoker in running))
    await check(testbed, plan.requests)


async def _send_requests(testbed: Testbed, plan: Round) -> None:
    if plan.step == "leased":  # a delivery is leased only if its system was known when the request came
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            while not await testbed.rows("SELECT FROM invoker.business_systems WHERE disabled"):
                await asyncio.sleep(0.1)
    for request_id, system in (*plan.requests, plan.requests[0]):
        await testbed.request(request_id, system)


async def _kill(testbed: Testbed, plan: Round, running: list[InvokerProcess]) -> None:
    invoker = testbed.invoker(ProcessOptions(step=plan.step, count=plan.count))
    running.append(invoker)
    await _send_requests(testbed, plan)
    await asyncio.wait_for(invoker.signalled.wait(), SETTLE_TIMEOUT_S)
    await asyncio.to_thread(invoker.process.wait)
    running.append(testbed.invoker())


async def _zombie(testbed: Testbed, plan: Round, running: list[InvokerProcess]) -> None:
    """Stops an invoker for longer than its lease while another one works, and then resumes it."""
    step: Step = "called" if plan.step == "ingested" else plan.step
    invoker = testbed.invoker(ProcessOptions(step=step, count=plan.count, signal="SIGSTOP"))
    running.append(invoker)
    await _send_requests(testbed, plan)
    await asyncio.wait_for(invoker.signalled.wait(), SETTLE_TIMEOUT_S)
    running.append(testbed.invoker())
    await asyncio.sleep(4)
    invoker.resume()


async def _two(testbed: Testbed, plan: Round, running: list[InvokerProcess]) -> None:
    """Lets two invokers share the work, and kills one."""
    running += [testbed.invoker(), testbed.invoker(ProcessOptions(step=plan.step, count=plan.count))]
    await _send_requests(testbed, plan)
    await asyncio.sleep(plan.delay_s)
    running[1].process.kill()


def _server(name: Literal["postgres", "kafka"], how: Literal["kill", "restart"]) -> Any:
    async def fault(testbed: Testbed, plan: Round, running: list[InvokerProcess]) -> None:
        invoker = testbed.invoker()
        running.append(invoker)
        await asyncio.wait_for(invoker.ready.wait(), SETTLE_TIMEOUT_S)
        await _send_requests(testbed, plan)
        await asyncio.sleep(plan.delay_s)
        server = testbed.postgres if name == "postgres" else testbed.kafka
        await asyncio.to_thread(server.kill if how == "kill" else server.stop)
        await asyncio.sleep(plan.delay_s)
        await asyncio.to_thread(server.start)

    return fault


_FAULTS: dict[Fault, Callable[[Testbed, Round, list[InvokerProcess]], Coroutine[Any, Any, None]]] = {
    "kill": _kill,
    "zombie": _zombie,
    "two": _two,
    "postgres-kill": _server("postgres", "kill"),
    "postgres-restart": _server("postgres", "restart"),
    "kafka-kill": _server("kafka", "kill"),
    "kafka-restart": _server("kafka", "restart"),
}


async def wait_until_settled(testbed: Testbed, plan: Round) -> None:
    """Waits until every request is in a final state and every result is published."""
    ids = [request_id for request_id, _ in plan.requests]
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        [[count]] = await testbed.rows(
            "SELECT count(*) FROM invoker.deliveries WHERE request_id = ANY($1::text[]) "
            "AND state IN ('delivered', 'dead', 'refused', 'parked')",
            ids,
        )
        [[unpublished]] = await testbed.rows("SELECT count(*) FROM invoker.outbox")
        if count == len(ids) and unpublished == 0:
            return
        if time.monotonic() > deadline:
            found = await testbed.rows(
                "SELECT request_id, system, state, attempts, lease, leased_until, due_at FROM invoker.deliveries "
                "WHERE request_id = ANY($1::text[])",
                ids,
            )
            raise Violation(f"{count} of {len(ids)} settled, {unpublished} unpublished: {[dict(row) for row in found]}")
        await asyncio.sleep(0.1)


async def check_rereading(testbed: Testbed) -> None:
    """Deletes the invoker's checkpoint: it reads every request again, and calls only for the new one."""
    before = {path: len(calls) for path, calls in testbed.receiver.calls.items()}
    [[rows]] = await testbed.rows("SELECT count(*) FROM invoker.deliveries")
    await testbed.rows("DELETE FROM switchboard.checkpoints WHERE topic = $1", topics.INVOCATION_REQUESTS.name)
    plan = Round("kill", "claimed", 1, 0, ((fresh("req"), "steady"),))
    invoker = testbed.invoker()
    try:
        await _send_requests(testbed, plan)
        await wait_until_settled(testbed, plan)
    finally:
        await invoker.stop()
    await check(testbed, plan.requests)
    after = {path: len(calls) for path, calls in testbed.receiver.calls.items()}
    require(after == before | {"steady": before["steady"] + 1}, f"a system was called again: {before}, then {after}")
    [[now]] = await testbed.rows("SELECT count(*) FROM invoker.deliveries")
    require(now == rows + 1, f"{now} rows, not {rows + 1}")


def play_rounds(rounds: int, seed: int, faults: Sequence[str], directory: Path) -> int:
    """Plays rounds with the faults in turn and prints a line for each; returns how many were violated."""
    return asyncio.run(_play_rounds(rounds, seed, faults, directory))


async def _play_rounds(rounds: int, seed: int, faults: Sequence[str], directory: Path) -> int:
    violated = 0
    async with open_testbed(directory) as testbed:
        for number in range(rounds):
            plan = Round.generate(random.Random(f"{seed}/{number}"), cast("Fault", faults[number % len(faults)]))
            started = time.monotonic()
            verdict = "holds"
            try:
                await play(testbed, plan)
            except Violation as violation:
                violated += 1
                verdict = f"VIOLATED: {violation}"
            fault = f"{plan.fault} at {plan.step} x{plan.count}"
            print(f"{number:4} {fault:32} {time.monotonic() - started:5.1f} s  {verdict}", flush=True)
        await check_rereading(testbed)
        found = await asyncio.to_thread(
            judge,
            testbed.kafka.bootstrap_servers,
            testbed.postgres.dsn,
            directory / "judged",
            services=("projector", "gateway"),
            partitions=testbed.installation.settings.partitions,
            seed=seed,
        )
    return violated + len(found)
