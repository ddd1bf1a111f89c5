"""The Dockerfile and the compose file, by tools that know them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from services.cli.service_settings import SERVICES
from tests.prometheus import DEPLOY

_HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or "hadolint"
_DOCKERFILE = DEPLOY / "Dockerfile"


def _compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def _hadolint(text: str) -> int:
    return subprocess.run(
        [_HADOLINT, "-"], input=text, text=True, capture_output=True, timeout=60, check=False
    ).returncode


def test_hadolint_accepts_the_dockerfile_and_can_refuse_one() -> None:
    assert _hadolint(_DOCKERFILE.read_text()) == 0
    assert _hadolint(_DOCKERFILE.read_text().replace("debian:bookworm-slim\n", "debian\n")) != 0


def test_the_compose_file_is_what_the_specification_has() -> None:
    assert set(PyCompose.from_json(json.dumps(_compose())).service_names()) > set(SERVICES)


@pytest.mark.parametrize("wrong", [{"restartt": "no"}, {"ports": ["x:y"]}, {"read_only": "maybe"}], ids=str)
def test_the_specification_refuses_what_is_wrong(wrong: dict[str, Any]) -> None:
    compose = _compose()
    compose["services"]["gateway"] |= wrong
    with pytest.raises(ValueError, match=r"."):
        PyCompose.from_json(json.dumps(compose))


def test_prometheus_finds_each_service_of_the_compose_file() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"][0]
    targets = {static["labels"]["service"]: static["targets"] for static in scraped["static_configs"]}
    assert set(targets) == set(SERVICES)
    assert all(target.split(":")[0] == service for service, [target] in targets.items())
    assert set(targets) < set(_compose()["services"])


def test_the_image_has_the_locked_versions() -> None:
    def locked(path: Path) -> set[str]:
        return set(re.findall(r"^\S+==\S+", path.read_text(), re.MULTILINE))

    image, everything = locked(DEPLOY / "requirements.lock"), locked(DEPLOY.parent / "requirements.lock")
    assert len(image) > 40
    assert image < everything
