"""The worker of the schema checks, with wrong estimates and a late deadline: its service is killed before."""

from __future__ import annotations

from services.domain import json_schema
from services.schema_validation import worker

if __name__ == "__main__":
    vars(json_schema)["CHECK_BUDGET_MS"] = 10**9
    vars(worker)["CHECK_DEADLINE_MS"] = 1_500
    worker.main()
