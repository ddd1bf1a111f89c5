"""The benchmarks run, and report what dashboards rely on. How fast anything is, is no matter of tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.report import Result, merge

_FIELDS = ["name", "unit", "ours", "limit", "limit_is", "ratio", "peer", "peer_is", "details"]


def _result(name: str, ours: float) -> Result:
    return Result(name, "commands/s", ours, limit=2.0, limit_is="a bare loop", ratio=ours / 2)


def test_results_of_several_runs_are_merged_by_name(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    merge([_result("decider", 1.0), _result("restore", 1.0)], path)
    merge([_result("decider", 3.0)], path)
    found = {entry["name"]: entry for entry in json.loads(path.read_text())}
    assert {name: entry["ours"] for name, entry in found.items()} == {"decider": 3.0, "restore": 1.0}
    assert all(list(entry) == _FIELDS for entry in found.values())


@pytest.mark.timeout(120)
def test_a_tiny_benchmark_runs_beside_its_limit(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "--only", "command-latency", "--scale", "0.01"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((tmp_path / ".bench" / "results.json").read_text())
    assert list(entry) == _FIELDS
    assert entry["name"] == "command-latency"
    assert min(entry["ours"], entry["limit"], entry["ratio"]) > 0
