"""``python -m tests.chart DIRECTORY VALUES``: lints and renders a Helm chart, and prints what Helm found as JSON.

In a process of its own: Helm's library brings Go's runtime with it, and its handling of signals.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import helm_python as helm


def main(directory: str, values: dict[str, Any]) -> dict[str, Any]:
    """``error`` is Helm's refusal of the values; ``files`` the rendered text by path, where it has none."""
    found: dict[str, Any] = {"lint": helm.lint(directory), "files": {}, "error": None}
    with helm.Chart.load(directory) as chart:
        try:
            merged = chart.merge_values(values)
            chart.validate_schema(merged)
            found["files"] = chart.render(merged, name="trial", namespace="switchboard")
        except helm.HelmError as error:
            found["error"] = str(error)
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))
