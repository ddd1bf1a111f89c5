"""Seeded rounds of injected faults on real servers: ``python -m tests.faults --kind KIND --rounds N --seed S``.

Without ``--kind``, it plays N rounds against the decider and a third as many against each other kind. A round of the
subscriber is one kill; of ``verify``, one run of the audit while everything moves. At the end of the other kinds the
oracle judges what the product says about the log. ``--fault NAME`` plays one fault of a kind only. ``--control NAME``
removes one safeguard of the decider or the message router, and exits with 0 if the checker notices within five rounds;
``no-fence`` is the decider's unless ``--kind message-router`` says otherwise; with ``--kind cluster`` the safeguards
are the decider's, on three brokers. ``restarts`` restarts every broker and every service under load. Both kinds are
played only where ``--kind`` asks for them.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from services.infrastructure.logging_setup import configure_structlog
from tests.faults.cluster import faults as cluster
from tests.faults.cluster.testbed import ClusterTestbed
from tests.faults.decider import faults as decider
from tests.faults.decider import suite
from tests.faults.decider.testbed import Testbed
from tests.faults.growth import rounds as growth
from tests.faults.invoker import rounds as invoker
from tests.faults.message_router import rounds as message_router
from tests.faults.projector import rounds as projector
from tests.faults.restarts import rounds as restarts
from tests.faults.restore import rounds as restore
from tests.faults.subscriber import rounds as subscriber
from tests.faults.verify import rounds as verify


@dataclass(frozen=True, slots=True)
class Kind:
    """What the faults are injected into; ``play_rounds(rounds, seed, faults, directory)`` returns how many failed."""

    faults: Sequence[str]
    play_rounds: Callable[[int, int, Sequence[str], Path], int]


KINDS = {
    "decider": Kind(tuple(decider.FAULTS), partial(suite.play_rounds, Testbed, decider.FAULTS)),
    "cluster": Kind(tuple(cluster.FAULTS), partial(suite.play_rounds, ClusterTestbed, cluster.FAULTS)),
    "projector": Kind(tuple(projector.FAULTS), projector.play_rounds),
    "invoker": Kind(invoker.FAULTS, invoker.play_rounds),
    "message-router": Kind(message_router.FAULTS, message_router.play_rounds),
    "subscriber": Kind(("kill",), subscriber.play_rounds),
    "verify": Kind(tuple(verify.FAULTS), verify.play_rounds),
    "growth": Kind(("kill",), growth.play_rounds),
    "restore": Kind(restore.STEPS, restore.play_rounds),
    "restarts": Kind(restarts.FAULTS, restarts.play_rounds),
}
ON_THREE_BROKERS = ("cluster", "restarts")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", action="append", help="of one kind: only this one; may be repeated")
    parser.add_argument("--control", choices=sorted({*decider.CONTROLS, *message_router.CONTROLS}))
    parser.add_argument("--keep", type=Path, help="a directory that keeps all files and logs")
    arguments = parser.parse_args()
    if arguments.fault:
        kind = (
            arguments.kind[0] if arguments.kind and len(arguments.kind) == 1 else parser.error("--fault needs a --kind")
        )
        if unknown := set(arguments.fault) - set(KINDS[kind].faults):
            parser.error(f"unknown faults of the {kind}: {', '.join(unknown)}; known: {', '.join(KINDS[kind].faults)}")
    configure_structlog()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its complaints about absent brokers are expected here
    with tempfile.TemporaryDirectory(prefix="switchboard-faults-") as temporary:
        directory = arguments.keep or Path(temporary)
        if arguments.control:
            violations = _violations_without(arguments.control, arguments.kind, arguments.seed, directory)
            print("\n".join(violations[:5]))
            return 0 if violations else 1
        failed = 0
        for name in arguments.kind or [name for name in KINDS if name not in ON_THREE_BROKERS]:
            everything = arguments.kind or name == "decider"
            rounds = arguments.rounds if everything else -(-arguments.rounds // 3)
            failed += _play(name, rounds, arguments.seed, arguments.fault, directory / name)
        return 1 if failed else 0


def _violations_without(control: Any, kinds: Sequence[str] | None, seed: int, directory: Path) -> list[str]:
    if kinds == ["message-router"] or control not in decider.CONTROLS:
        return message_router.violations_without(control, seed, directory)
    if kinds == ["cluster"]:
        fault = cluster.FAULTS[cluster.CONTROLS[control]]
        return suite.violations_without(ClusterTestbed, control, fault, seed, directory)
    fault = decider.FAULTS[decider.CONTROLS[control]]
    return suite.violations_without(Testbed, control, fault, seed, directory)


def _play(name: str, rounds: int, seed: int, faults: Sequence[str] | None, directory: Path) -> int:
    print(f"== {name}: rounds: {rounds}, seed: {seed}", flush=True)
    failed = KINDS[name].play_rounds(rounds, seed, faults or KINDS[name].faults, directory)
    print(f"== {name}: rounds: {rounds}, seed: {seed}, violated: {failed}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
