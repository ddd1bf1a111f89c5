"""The image, without a Docker engine: the Dockerfile's steps in a chroot, and services out of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.chroot_build import Stage, build

_ROOT = Path(__file__).parents[2]
_INDEXES = ("PIP_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "SSL_CERT_FILE")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("debootstrap") is None, reason="needs root and debootstrap"),
    pytest.mark.timeout(1800),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("image")
    directory.parent.chmod(0o755)
    directory.chmod(0o755)
    given = {name: value for name, value in os.environ.items() if name.startswith(_INDEXES)}
    try:
        yield build(_ROOT / "deploy" / "Dockerfile", _ROOT, directory, given)
    finally:
        shutil.rmtree(directory)


def test_it_runs_as_nobody_in_particular_and_writes_nothing(image: Stage) -> None:
    assert image.user == "10001:10001"
    writable = image.run(["/usr/bin/find", "/opt", "/usr", "/etc", "-writable", "-not", "-type", "l"])
    assert writable.stdout == ""


@pytest.mark.parametrize("tool", ["cc", "gcc", "make", "pip", "pip3", "git", "curl"])
def test_it_has_no_build_tools(image: Stage, tool: str) -> None:
    assert image.run(["/bin/sh", "-c", f"command -v {tool} || ls /opt/switchboard/bin/{tool}"]).returncode != 0


@pytest.mark.parametrize("module", ["pip", "setuptools", "hatchling", "pytest", "mypy"])
def test_it_has_no_package_that_only_builds_or_tests(image: Stage, module: str) -> None:
    python = image.entrypoint[0]
    assert image.run([python, "-c", f"import {module}"]).returncode != 0


@pytest.mark.parametrize("service", ["decider", "projector", "invoker", "message-router", "gateway"])
def test_each_service_says_what_it_lacks(image: Stage, service: str) -> None:
    """All modules are there: a service reads its settings, and names those that are missing."""
    said = image.run([*image.entrypoint, "run", service])
    assert said.returncode != 0
    assert "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS is not set" in said.stdout + said.stderr


def test_each_service_can_be_imported(image: Stage) -> None:
    services = "decider projector invoker message_router gateway".split()
    code = "; ".join(f"import services.{service}.service" for service in services)
    done = image.run([image.entrypoint[0], "-c", code])
    assert done.returncode == 0, done.stderr
