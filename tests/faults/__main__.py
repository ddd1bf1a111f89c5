"""``python -m tests.faults --rounds N --seed S``: seeded rounds of faults on a real broker, and what they found.

``--control NAME`` takes one thing away that the decider needs, and ends with 0 if the checker notices within a few
rounds. ``--fault NAME`` strikes with that one alone.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.arena import Arena
from tests.faults.nemesis import CONTROLS, FAULTS, Round

ROUNDS_ON_ONE_BROKER = 10
CONTROL_ROUNDS = 5


def _rounds(rounds: int, seed: int, names: list[str], directory: Path) -> int:
    """Runs them, a line each; returns how many did not hold."""
    broken: Counter[str] = Counter()
    for first in range(0, rounds, ROUNDS_ON_ONE_BROKER):
        with Arena(directory / f"broker-{first}") as arena:
            for number in range(first, min(rounds, first + ROUNDS_ON_ONE_BROKER)):
                name = names[number % len(names)]
                started = time.monotonic()
                what, found = asyncio.run(Round(arena, number, seed).run(FAULTS[name]))
                verdict = "holds" if not found else f"{len(found)} VIOLATIONS"
                print(f"{number:4} {name:32} {time.monotonic() - started:5.1f} s  {verdict}  {what}", flush=True)
                for sentence in found[:20]:
                    print(f"       {sentence}", flush=True)
                broken[name] += bool(found)
                if found:
                    break  # what is on this log would be found again by every round after it
    wrong = broken.total()
    print(f"{rounds} rounds with seed {seed}: {wrong} with violations" + (f" {dict(+broken)}" if wrong else ""))
    return wrong


def caught(control: str, seed: int, directory: Path, rounds: int = CONTROL_ROUNDS) -> list[str]:
    """What the checker says of a decider that lacks something; empty where it does not notice."""
    for number in range(rounds):
        with Arena(directory / f"control-{number}") as arena:
            what, found = asyncio.run(Round(arena, number, seed, control).run(FAULTS[CONTROLS[control]]))  # type: ignore[index,arg-type]
        print(f"without {control}, round {number + 1}: {len(found)} violations; {what}", flush=True)
        if found:
            return found
    return []


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", choices=FAULTS, action="append")
    parser.add_argument("--control", choices=CONTROLS)
    parser.add_argument("--keep", type=Path, help="a directory in which everything is left to be looked at")
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers that go away are what this is about
    with tempfile.TemporaryDirectory(prefix="switchboard-faults-") as temporary:
        directory = arguments.keep or Path(temporary)
        if arguments.control:
            found = caught(arguments.control, arguments.seed, directory)
            print("\n".join(found[:5]))
            return 0 if found else 1
        return 1 if _rounds(arguments.rounds, arguments.seed, arguments.fault or list(FAULTS), directory) else 0


if __name__ == "__main__":
    sys.exit(main())
