"""The JSON Schema (2020-12) of an intent's data: whether it can be used, and whether data satisfies it.

Customers write the schemas. References are never fetched and only lead downwards, patterns run in linear time, and a
check whose estimated cost is above a budget (`schema_cost`) is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jsonschema_rs

from services.domain.schema_cost import CHECK_BUDGET_MS, estimated_ms
from services.domain.schema_references import SchemaUnusable


class Verdict(NamedTuple):
    """What a check found. ``reason`` is a clause, empty where the data is valid or the check timed out."""

    outcome: Literal["valid", "invalid-data", "unusable-schema", "timed-out"]
    reason: str = ""


VALID = Verdict("valid")
TIMED_OUT = Verdict("timed-out")

CHECK_DEADLINE_MS = 250
"""The processor time after which a check is ended. Five times the budget, because the estimate may be wrong."""

CheckData = Callable[[dict[str, Any], object], Verdict]
"""(schema, data) -> verdict"""


def check_data(schema: dict[str, Any], data: object) -> Verdict:
    """Whether ``data`` satisfies ``schema``. Takes about `CHECK_BUDGET_MS` at most, if the estimate is right."""
    try:
        cost_ms = estimated_ms(schema, data)
    except SchemaUnusable as unusable:
        return Verdict("unusable-schema", str(unusable))
    if cost_ms > CHECK_BUDGET_MS:
        return Verdict("unusable-schema", _too_costly(cost_ms))
    return check_within_budget(schema, data)


def check_within_budget(schema: dict[str, Any], data: object) -> Verdict:
    """The same for a schema that is known to cost little with this data."""
    try:
        validator = jsonschema_rs.Draft202012Validator(
            schema,
            mask="the value",  # keeps long data out of messages
            offline=True,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        return Verdict("unusable-schema", _clause(error))
    try:
        validator.validate(data)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        return Verdict("invalid-data", _clause(error))
    return VALID


def _too_costly(cost_ms: float) -> str:
    cost = f"{cost_ms:,.0f} ms" if cost_ms < 1_000_000 else "more than 1,000,000 ms"
    return (
        f"checking the data against it would take about {cost}, and at most {CHECK_BUDGET_MS} ms are allowed; "
        "use fewer enum members, references or patterns, or shorter data"
    )


def _clause(error: Exception) -> str:
    message = getattr(error, "message", None) or str(error)
    return str(message).splitlines()[0][:300].rstrip(".")
