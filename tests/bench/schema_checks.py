"""Compares the estimated cost of schema checks with their processor time: `python -m tests.bench.schema_checks`.

A ratio below 1 means that the estimate is too low: then the deadline must help. Run it after an upgrade of
jsonschema-rs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from services.domain.json_schema import check_within_budget
from services.domain.schema_cost import estimated_ms
from tests.hostile_schemas import HOSTILE, LEGITIMATE


def processor_ms(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def main() -> None:
    print(f"{'check':36}{'estimate':>12}{'measured':>12}{'ratio':>8}{'estimating':>12}   (ms)")
    for name, (schema, data) in (HOSTILE | LEGITIMATE).items():
        estimate = estimated_ms(schema, data)
        estimating = processor_ms(lambda: estimated_ms(schema, data))  # noqa: B023 -- called at once
        measured = processor_ms(lambda: check_within_budget(schema, data))  # noqa: B023 -- called at once
        print(f"{name:36}{estimate:12.1f}{measured:12.1f}{estimate / measured:8.1f}{estimating:12.1f}")


if __name__ == "__main__":
    main()
