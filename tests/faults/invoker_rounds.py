"""Fault rounds for the invoker: ``python -m tests.faults.invoker_rounds --rounds N --seed S``.

Each round asks for calls, lets something die, and judges what is left: every request is in exactly one row, which
ended as its system demands; a receiver that dedupes on ``webhook-id`` saw each once; what was told is told once;
nothing holds a lease; no secret lies in the tables; and reading all requests again calls nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from services.domain.signing import plain_token
from services.infrastructure.telemetry import set_up_logging
from tests.faults.invoker_process import STEPS, Order, Step
from tests.faults.invoker_world import ENDS, SYSTEMS, Invoker, World, world
from tests.installation import fresh

SETTLES_WITHIN_S = 60.0

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


_OFTEN: dict[Step, int] = {"ingested": 1, "leased": 3, "claimed": 4, "called": 4, "recorded": 4}
"""How often at least a round comes to each step."""


class Violation(Exception):
    """An invariant does not hold; the text says which, and shows it."""


@dataclass(frozen=True, slots=True)
class Round:
    """What is to happen: ``requests`` of (id, system), one of them published twice, and the fault."""

    fault: Fault
    step: Step
    count: int
    delay_s: float
    requests: tuple[tuple[str, str], ...]

    @classmethod
    def drawn(cls, chance: random.Random, fault: Fault | None = None, step: Step | None = None) -> Round:
        systems = [*SYSTEMS, *chance.choices(SYSTEMS, k=chance.randint(3, 9))]
        chosen_step = chance.choice(STEPS) if step is None else step
        return cls(
            chance.choice(FAULTS) if fault is None else fault,
            chosen_step,
            chance.randint(1, _OFTEN[chosen_step]),
            chance.uniform(0, 1),
            tuple((fresh("req"), system) for system in chance.sample(systems, len(systems))),
        )


async def play(made: World, plan: Round) -> None:
    """Plays a round and judges it. Raises `Violation`."""
    running: list[Invoker] = []
    try:
        await _FAULTS[plan.fault](made, plan, running)
        await settle(made, plan)
    finally:
        await asyncio.gather(*(invoker.stop() for invoker in running))
    await judge(made, plan)


async def _asked(made: World, plan: Round) -> None:
    if plan.step == "leased":  # as nothing is that is asked for before it is known
        async with asyncio.timeout(SETTLES_WITHIN_S):
            while not await made.rows("SELECT FROM invoker.business_systems WHERE disabled"):
                await asyncio.sleep(0.1)
    for request_id, system in (*plan.requests, plan.requests[0]):
        await made.ask(request_id, system)


async def _kill(made: World, plan: Round, running: list[Invoker]) -> None:
    victim = made.invoker(Order(step=plan.step, count=plan.count))
    running.append(victim)
    await _asked(made, plan)
    await asyncio.wait_for(victim.struck.wait(), SETTLES_WITHIN_S)
    await asyncio.to_thread(victim.process.wait)
    running.append(made.invoker())


async def _zombie(made: World, plan: Round, running: list[Invoker]) -> None:
    """Stopped for longer than its lease while another one works, and then goes on where it was."""
    step: Step = "called" if plan.step == "ingested" else plan.step
    victim = made.invoker(Order(step=step, count=plan.count, signal="SIGSTOP"))
    running.append(victim)
    await _asked(made, plan)
    await asyncio.wait_for(victim.struck.wait(), SETTLES_WITHIN_S)
    running.append(made.invoker())
    await asyncio.sleep(4)
    victim.resume()


async def _two(made: World, plan: Round, running: list[Invoker]) -> None:
    """Two share the work, and one of them is killed."""
    running += [made.invoker(), made.invoker(Order(step=plan.step, count=plan.count))]
    await _asked(made, plan)
    await asyncio.sleep(plan.delay_s)
    running[1].process.kill()


def _server(name: Literal["postgres", "kafka"], how: Literal["kill", "restart"]) -> Any:
    async def fault(made: World, plan: Round, running: list[Invoker]) -> None:
        invoker = made.invoker()
        running.append(invoker)
        await asyncio.wait_for(invoker.ready.wait(), SETTLES_WITHIN_S)
        await _asked(made, plan)
        await asyncio.sleep(plan.delay_s)
        server = made.postgres if name == "postgres" else made.kafka
        await asyncio.to_thread(server.kill if how == "kill" else server.stop)
        await asyncio.sleep(plan.delay_s)
        await asyncio.to_thread(server.start)

    return fault


_FAULTS: dict[Fault, Callable[[World, Round, list[Invoker]], Coroutine[Any, Any, None]]] = {
    "kill": _kill,
    "zombie": _zombie,
    "two": _two,
    "postgres-kill": _server("postgres", "kill"),
    "postgres-restart": _server("postgres", "restart"),
    "kafka-kill": _server("kafka", "kill"),
    "kafka-restart": _server("kafka", "restart"),
}


async def settle(made: World, plan: Round) -> None:
    """Waits until every request is where it stays, and everything is told."""
    ids = [request_id for request_id, _ in plan.requests]
    deadline = time.monotonic() + SETTLES_WITHIN_S
    while True:
        [[count]] = await made.rows(
            "SELECT count(*) FROM invoker.deliveries WHERE request_id = ANY($1::text[]) "
            "AND state IN ('delivered', 'dead', 'refused', 'parked')",
            ids,
        )
        [[unpublished]] = await made.rows("SELECT count(*) FROM invoker.outbox")
        if count == len(ids) and unpublished == 0:
            return
        if time.monotonic() > deadline:
            found = await made.rows(
                "SELECT request_id, system, state, attempts, lease, leased_until, due_at FROM invoker.deliveries "
                "WHERE request_id = ANY($1::text[])",
                ids,
            )
            raise Violation(f"{count} of {len(ids)} settled, {unpublished} untold: {[dict(row) for row in found]}")
        await asyncio.sleep(0.1)


async def judge(made: World, plan: Round) -> None:
    """Raises `Violation` where an invariant does not hold for the round's requests."""
    wanted = dict(plan.requests)
    rows = await made.rows("SELECT * FROM invoker.deliveries WHERE request_id = ANY($1::text[])", list(wanted))
    _require(len(rows) == len(wanted), f"{len(rows)} rows for {len(wanted)} requests")
    told = await outcomes(made)
    for row in rows:
        about = f"{row['request_id']} at {row['system']}: {row['state']} {row['reason']} after {row['attempts']}"
        _require(row["state"] == ENDS[row["system"]], about)
        _require(row["lease"] is None, f"{about} holds a lease")
        calls = [call for call in made.receiver.calls[row["system"]] if call.webhook_id == row["id"]]
        _require(len({call.body for call in calls}) <= 1, f"{about}: its body changed")
        _require(
            (made.accepted[row["id"]] > 0) == (row["state"] == "delivered"), f"{about}: the receiver saw another end"
        )
        notes = {(note["id"], note["type"], note["data"]["status"]) for note in told.get(row["request_id"], [])}
        _require(len(notes) == (0 if row["state"] == "parked" else 1), f"{about}: told {notes}")
        attempts = await made.rows("SELECT * FROM invoker.attempts WHERE delivery = $1 ORDER BY number", row["id"])
        numbers = [one["number"] for one in attempts]
        _require(numbers == list(range(1, row["attempts"] + 1)), f"{about}: attempts {numbers}")
        unknown = sum(one["stage"] == "unknown" for one in attempts)
        _require(len(calls) >= len(attempts) - unknown, f"{about}: {len(calls)} calls, attempts {numbers}")
    seen = {call.webhook_id for calls in made.receiver.calls.values() for call in calls}
    known = {row["id"] for row in await made.rows("SELECT id FROM invoker.deliveries")}
    _require(seen <= known, f"calls of no delivery: {seen - known}")
    await judge_secrets(made)


async def judge_secrets(made: World) -> None:
    """No form of a secret lies in what the invoker keeps."""
    kept = ""
    for table in ("deliveries", "attempts", "outbox", "lines", "circuits", "signatures", "secrets"):
        for row in await made.rows(f"SELECT * FROM invoker.{table}"):  # noqa: S608 -- our names
            kept += " ".join(
                value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in row.values()
            )
    kept += made.installation.output()
    for system, shown in made.secrets.items():
        secret = base64.b64decode(shown.removeprefix("whsec_"))
        for form in (shown.removeprefix("whsec_"), secret.hex(), plain_token(secret)):
            _require(form not in kept, f"the secret of {system} lies in the clear")


async def judge_reading_again(made: World) -> None:
    """With its checkpoint lost the invoker reads every request again, and calls nobody but for the new one."""
    before = {path: len(calls) for path, calls in made.receiver.calls.items()}
    [[rows]] = await made.rows("SELECT count(*) FROM invoker.deliveries")
    await made.rows("DELETE FROM switchboard.checkpoints WHERE topic = $1", topics.INVOCATION_REQUESTS.name)
    plan = Round("kill", "claimed", 1, 0, ((fresh("req"), "steady"),))
    invoker = made.invoker()
    try:
        await _asked(made, plan)
        await settle(made, plan)
    finally:
        await invoker.stop()
    await judge(made, plan)
    after = {path: len(calls) for path, calls in made.receiver.calls.items()}
    _require(after == before | {"steady": before["steady"] + 1}, f"somebody was called again: {before}, then {after}")
    [[now]] = await made.rows("SELECT count(*) FROM invoker.deliveries")
    _require(now == rows + 1, f"{now} rows, not {rows + 1}")


async def outcomes(made: World) -> dict[str, list[dict[str, Any]]]:
    """Everything on `switchboard.invocations`, by request."""
    found: dict[str, list[dict[str, Any]]] = {}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=made.kafka.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        every = [TopicPartition(topics.INVOCATIONS.name, one) for one in range(made.installation.settings.partitions)]
        consumer.assign(every)
        ends = await consumer.end_offsets(every)
        for source in every:
            consumer.seek(source, 0)
            while await consumer.position(source) < ends[source]:
                for record in (await consumer.getmany(source, timeout_ms=500)).get(source, ()):
                    note = json.loads(record.value)
                    found.setdefault(note["causationid"], []).append(note)
    finally:
        await consumer.stop()
    return found


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 -- as assert
    if not holds:
        raise Violation(otherwise)


async def run(rounds: int, seed: int, directory: Path, say: Callable[[str], None]) -> int:
    """Plays rounds, the faults in turn; returns how many were violated."""
    violated = 0
    async with world(directory) as made:
        for number in range(rounds):
            chance = random.Random(f"{seed}/{number}")
            plan = Round.drawn(chance, FAULTS[number % len(FAULTS)])
            began = time.monotonic()
            try:
                await play(made, plan)
            except Violation as violation:
                violated += 1
                say(f"round {number}: {plan.fault} at {plan.step} x{plan.count}: VIOLATED: {violation}")
            else:
                took = time.monotonic() - began
                say(f"round {number}: {plan.fault} at {plan.step} x{plan.count}: holds, {took:.1f} s")
        await judge_reading_again(made)
    return violated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    set_up_logging()

    def say(line: str) -> None:
        print(line, flush=True)

    with tempfile.TemporaryDirectory() as directory:
        violated = asyncio.run(run(options.rounds, options.seed, Path(directory), say))
    say(f"{options.rounds} rounds of the invoker, seed {options.seed}: {violated} violated")
    sys.exit(1 if violated else 0)


if __name__ == "__main__":
    main()
