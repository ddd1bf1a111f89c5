"""Plays seeded rounds against the decider, ten on each broker or cluster."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from services.infrastructure.embedded.postgres import EmbeddedPostgres
from tests.faults.decider.process import Sabotage
from tests.faults.decider.round import Fault, Round
from tests.faults.decider.testbed import Testbed
from tests.faults.judge import judge

ROUNDS_ON_ONE_BROKER = 10
CONTROL_ROUNDS = 5


def play_rounds(
    make: Callable[[Path], Testbed],
    known: Mapping[str, Fault],
    rounds: int,
    seed: int,
    faults: Sequence[str],
    directory: Path,
) -> int:
    """Plays rounds with the faults in turn and prints a line for each; returns how many have violations."""
    violated: Counter[str] = Counter()
    judged = 0
    with ExitStack() as stack:
        testbed, rounds_left = None, 0
        for number in range(rounds):
            if testbed is None or rounds_left == 0:
                judged += _judge(testbed, directory / f"judged-{number}", seed)
                stack.close()
                testbed = stack.enter_context(make(directory / f"broker-{number}"))
                rounds_left = ROUNDS_ON_ONE_BROKER
            name = faults[number % len(faults)]
            started = time.monotonic()
            description, violations = asyncio.run(Round(testbed, number, seed).run(known[name]))
            verdict = "holds" if not violations else f"VIOLATIONS: {len(violations)}"
            print(f"{number:4} {name:32} {time.monotonic() - started:5.1f} s  {verdict}  {description}", flush=True)
            for violation in violations[:20]:
                print(f"       {violation}", flush=True)
            violated[name] += bool(violations)
            # Every later round on this log would find its violations again.
            rounds_left = 0 if violations else rounds_left - 1
        judged += _judge(testbed, directory / f"judged-{rounds}", seed)
    played = Counter(faults[number % len(faults)] for number in range(rounds))
    print(", ".join(f"{name} {count} ({violated[name]} violated)" for name, count in played.items()), flush=True)
    return violated.total() + judged


def _judge(testbed: Testbed | None, directory: Path, seed: int) -> int:
    """How many objections the oracle has to what new read models and a gateway say about the testbed's log."""
    if testbed is None:
        return 0
    with EmbeddedPostgres(directory / "postgres", durable=False) as postgres:
        found = judge(
            testbed.bootstrap_servers,
            postgres.dsn,
            directory / "services",
            services=("decider", "projector", "gateway"),
            partitions=testbed.partitions,
            seed=seed,
            environment={"SWITCHBOARD_KEYRING": testbed.keyring},
        )
    return len(found)


def violations_without(
    make: Callable[[Path], Testbed], control: Sabotage, fault: Fault, seed: int, directory: Path
) -> list[str]:
    """The first violations that a decider without one safeguard shows; empty if the checker does not notice."""
    for number in range(CONTROL_ROUNDS):
        with make(directory / f"control-{number}") as testbed:
            turn = Round(testbed, number, seed, control).run(fault)
            description, violations = asyncio.run(turn)
        print(f"{control}, round {number + 1}: violations: {len(violations)}; {description}", flush=True)
        if violations:
            return violations
    return []
