"""The rules for Prometheus: by its own promtool, and each alert with its runbook."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.prometheus import DEPLOY, PROMTOOL, RULES, needs_prometheus, rules

_RUNBOOKS = (DEPLOY.parent / "docs" / "runbooks.md").read_text()


def _promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROMTOOL, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


@needs_prometheus
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", RULES),
        ("check", "config", RULES.with_name("prometheus.yaml")),
        ("test", "rules", RULES.with_name("rules.test.yaml")),
    ],
    ids=["rules", "config", "tests of the rules"],
)
def test_promtool_accepts(arguments: tuple[object, ...]) -> None:
    found = _promtool(*arguments)
    assert found.returncode == 0, found.stdout + found.stderr


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    assert set(re.findall(r"^## (\w+)$", _RUNBOOKS, re.MULTILINE)) == set(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"
        severity = re.search(rf"^## {name}\n\n(\w+)\. ", _RUNBOOKS, re.MULTILINE)
        assert severity is not None, name
        assert severity.group(1).lower() == rule["labels"]["severity"], name


def test_each_alert_is_tested() -> None:
    tested = RULES.with_name("rules.test.yaml").read_text()
    assert [
        rule["alert"] for rule in rules() if f'alertname="{rule.get("alert")}"' not in tested and "alert" in rule
    ] == []
