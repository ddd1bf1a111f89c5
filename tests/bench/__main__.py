"""`make bench`: runs benchmarks, prints a table, and writes `.bench/results.json`.

python -m tests.bench --only decider,restore --scale 0.1
python -m tests.bench --only deciders,command-latency --brokers 3

The rates of audits have a command of their own: `python -m tests.bench.audit`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from dataclasses import replace
from importlib import import_module

from rich.console import Console

from services.infrastructure.logging_setup import configure_structlog
from tests.bench.report import Result, merge, show
from tests.bench.testbed import open_testbed

BENCHMARKS = {
    "decider": "tests.bench.decider",
    "deciders": "tests.bench.deciders",
    "command-latency": "tests.bench.command_latency",
    "restore": "tests.bench.restore",
    "publisher": "tests.bench.publisher",
    "projection": "tests.bench.projection",
    "rebuild": "tests.bench.rebuild",
    "change-feed": "tests.bench.change_feed",
    "invoker": "tests.bench.invoker",
    "gateway": "tests.bench.gateway",
    "what-if": "tests.bench.what_if",
    "message-router": "tests.bench.message_router",
    "console": "tests.bench.console",
    "sizing": "tests.bench.sizing",
}
"""The names in `results.json`, and where each is measured."""


def run(names: list[str], scale: float, brokers: int, console: Console) -> tuple[list[Result], list[str]]:
    """Runs the benchmarks one after the other, each with servers of its own; also names those that failed."""
    results: list[Result] = []
    failed: list[str] = []
    for name in names:
        console.rule(name)
        started = time.perf_counter()
        try:
            with open_testbed(scale, console, brokers) as testbed:
                found = asyncio.run(import_module(BENCHMARKS[name]).run(testbed))
        except Exception:  # noqa: BLE001 -- the others are worth having
            console.print_exception()
            failed.append(name)
            continue
        if brokers > 1:
            found = [replace(result, name=f"{result.name}, {brokers} brokers") for result in found]
        merge(found)
        console.print(f"{name} took {time.perf_counter() - started:.0f} s")
        results += found
    return results, failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="names, separated by commas")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is full size; 0.01 only shows that it works")
    parser.add_argument(
        "--brokers", type=int, choices=(1, 3), default=1, help="3: each record on three, two must have it"
    )
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    configure_structlog()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it grumbles at topics that were made this moment
    console = Console(width=160)
    results, failed = run(names, arguments.scale, arguments.brokers, console)
    show(results, console)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
