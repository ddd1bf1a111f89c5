"""``python -m tests.faults --rounds N --seed S``: seeded rounds of faults on real servers, and what they found.

N rounds strike the decider; a third as many each strike the read models and the invoker (``--only`` plays one suite).
``--control NAME`` takes one thing away that the decider needs, and ends with 0 if the checker notices within a few
rounds. ``--fault NAME`` strikes the decider with that one alone.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.faults import invoker_rounds, projector_rounds
from tests.faults.arena import Arena
from tests.faults.nemesis import CONTROLS, FAULTS, Round

ROUNDS_ON_ONE_BROKER = 10
CONTROL_ROUNDS = 5
SUITES = ("decider", "read-models", "invoker")


def _rounds(rounds: int, seed: int, names: list[str], directory: Path) -> tuple[int, str]:
    """Plays them, a line each; returns how many did not hold, and how often each fault was played."""
    broken: Counter[str] = Counter()
    with ExitStack() as stack:
        arena, left = None, 0
        for number in range(rounds):
            if arena is None or left == 0:
                stack.close()
                arena, left = stack.enter_context(Arena(directory / f"broker-{number}")), ROUNDS_ON_ONE_BROKER
            name = names[number % len(names)]
            started = time.monotonic()
            what, found = asyncio.run(Round(arena, number, seed).run(FAULTS[name]))
            verdict = "holds" if not found else f"{len(found)} VIOLATIONS"
            print(f"{number:4} {name:32} {time.monotonic() - started:5.1f} s  {verdict}  {what}", flush=True)
            for sentence in found[:20]:
                print(f"       {sentence}", flush=True)
            broken[name] += bool(found)
            # What is on this log would be found again by every round after it.
            left = 0 if found else left - 1
    return broken.total(), _counted(rounds, names, broken)


def _counted(rounds: int, names: list[str], broken: Counter[str]) -> str:
    played = Counter(names[number % len(names)] for number in range(rounds))
    return ", ".join(
        f"{name} {count}" + (f" ({broken[name]} VIOLATED)" if broken[name] else "") for name, count in played.items()
    )


def _suite(name: str, rounds: int, seed: int, faults: list[str], directory: Path) -> int:
    """Plays a suite's rounds and sums them up; returns how many did not hold."""
    print(f"== {rounds} rounds against the {name}", flush=True)
    counted = ""
    if name == "decider":
        broken, counted = _rounds(rounds, seed, faults, directory)
    elif name == "read-models":
        broken = projector_rounds.rounds(list(projector_rounds.FAULTS), rounds, seed, directory)
    else:
        broken = asyncio.run(invoker_rounds.run(rounds, seed, directory, lambda line: print(line, flush=True)))
    print(f"== {name}: {rounds} rounds with seed {seed}, {broken or 'none'} with violations; {counted}", flush=True)
    return broken


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
    parser.add_argument("--only", choices=SUITES, action="append")
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
        suites = arguments.only or (["decider"] if arguments.fault else SUITES)
        broken = 0
        for name in suites:
            rounds = arguments.rounds if name == suites[0] else -(-arguments.rounds // 3)
            broken += _suite(name, rounds, arguments.seed, arguments.fault or list(FAULTS), directory / name)
        return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
