"""The result of a benchmark: an entry of `.bench/results.json`, and a row of the table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(".bench/results.json")


@dataclass(frozen=True, slots=True)
class Result:
    """Our rate, a ``limit`` that does only what any solution must, and a ``peer`` that solves the same problem.

    A higher ``ratio`` is better: ours / limit for rates, limit / ours if ``unit`` is a time.
    """

    name: str
    unit: str
    ours: float
    limit: float | None
    limit_is: str
    ratio: float | None
    peer: float | None = None
    peer_is: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


def rounded_median(measured: Iterable[float]) -> float:
    """The median, to three significant digits."""
    return float(f"{median(measured):.3g}")


def ratio_of(ours: Iterable[float], limit: Iterable[float]) -> float:
    """The median of the ratios per round: other load in a round slows both sides."""
    return rounded_median(one / other for one, other in zip(ours, limit, strict=True))


def merge(results: Iterable[Result], path: Path = RESULTS) -> None:
    """Writes the results into the file; each replaces an earlier one of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {entry["name"]: entry for entry in json.loads(path.read_text())} if path.exists() else {}
    known |= {result.name: asdict(result) for result in results}
    path.write_text(json.dumps(list(known.values()), indent=2) + "\n")


def show(results: Iterable[Result], console: Console) -> None:
    table = Table("benchmark", "unit", "ours", "limit", "ratio", "peer", "beside", title="Switchboard, side by side")
    for result in results:
        beside = result.limit_is if result.peer_is is None else f"{result.limit_is}; peer: {result.peer_is}"
        numbers = (_shown(number) for number in (result.ours, result.limit, result.ratio, result.peer))
        table.add_row(result.name, result.unit, *numbers, beside)
    console.print(table)
    for result in results:
        for name, value in result.details.items():
            console.print(f"[bold]{result.name}[/bold]  {name}: {value}")


def _shown(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
