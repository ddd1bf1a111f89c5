"""Prometheus and its promtool, where they are installed: on the PATH, or where CI unpacks Debian's package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yaml"
_PATH = os.pathsep.join([os.environ.get("PATH", ""), str(DEPLOY.parent / ".tools" / "usr" / "bin")])

PROMETHEUS = shutil.which("prometheus", path=_PATH) or ""
PROMTOOL = shutil.which("promtool", path=_PATH) or ""
needs_prometheus = pytest.mark.skipif(
    not (PROMETHEUS and PROMTOOL), reason="Prometheus is not installed (apt-get install prometheus)"
)


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]
