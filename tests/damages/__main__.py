"""Random damages, and what `verify` said of each: ``python -m tests.damages --rounds 500 --seed 1``.

A third of the rounds damage the log or its state, the others rows of the read models, in an embedded database of its
own. Exit code 1 if a damage was neither named nor excluded by the manual (docs/audit.md).
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from services.infrastructure.embedded.postgres import EmbeddedPostgres
from tests.damages import log
from tests.damages.read_models import read_models
from tests.installation import fresh_database

Results = Counter[tuple[str, str]]

_AT_ONCE = 50
_DATABASES = 4
_ROUNDS_A_LOG = 50


async def damages_of_the_log(seed: int, rounds: int, directory: Path) -> Results:
    """How many damages came to each (kind, result)."""
    turn = asyncio.Semaphore(_AT_ONCE)  # most of the time is spent on waiting for records that do not come

    async def one(number: int) -> tuple[str, str]:
        async with turn:
            return await log.damage_and_verify(number, directory)

    return Counter(await asyncio.gather(*map(one, range(seed, seed + rounds))))


async def damages_of_read_models(seed: int, rounds: int, database_url: str, directory: Path) -> Results:
    """As `damages_of_the_log`. A few databases at once, each with another log after some rounds."""
    turn = asyncio.Semaphore(_DATABASES)

    async def some(first: int) -> Results:
        async with turn, read_models(fresh_database(database_url), first, directory) as models:
            assert (await models.verify()).findings == [], f"a false alarm (seed {first})"
            end = min(first + _ROUNDS_A_LOG, seed + rounds)
            return Counter([await models.damage_and_verify(number) for number in range(first, end)])

    found = await asyncio.gather(*map(some, range(seed, seed + rounds, _ROUNDS_A_LOG)))
    return sum(found, Counter())


def print_results(results: Results) -> bool:
    """Whether every damage was named or is excluded."""
    for (kind, result), count in sorted(results.items()):
        print(f"{kind:32} {result:16} {count}")
    return not any(result.startswith("NOT FOUND") for _, result in results)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.damages", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=500)
    options = parser.parse_args()
    of_log = options.rounds // 3
    with tempfile.TemporaryDirectory(prefix="switchboard-damages-") as temporary:
        directory = Path(temporary)
        results = asyncio.run(damages_of_the_log(options.seed, of_log, directory))
        with EmbeddedPostgres(directory / "postgres", durable=False) as database:
            rounds = options.rounds - of_log
            results += asyncio.run(damages_of_read_models(options.seed, rounds, database.dsn, directory))
    raise SystemExit(0 if print_results(results) else 1)


if __name__ == "__main__":
    main()
