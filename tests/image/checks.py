"""The image, without a Docker engine: the Dockerfile's steps in a chroot, and services out of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from services.cli.run_service import ready_line
from services.infrastructure.embedded.process import free_port
from services.infrastructure.vault import KeyRing
from tests.image.chroot_build import Stage, build
from tests.installation import SERVICES, fresh_database
from tests.servers import Servers

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


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_says_what_it_lacks(image: Stage, service: str) -> None:
    said = image.run([*image.entrypoint, "run", service])
    assert said.returncode != 0
    assert "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS is not set" in said.stdout + said.stderr


@pytest.fixture(scope="module")
def environment(image: Stage, shared_servers: Servers) -> dict[str, str]:
    """Of a service on a real broker and a real database, whose topics and tables the image itself has made."""
    given = {
        "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": shared_servers.bootstrap_servers,
        "SWITCHBOARD_DATABASE_URL": fresh_database(shared_servers.dsn),
        "SWITCHBOARD_KEYRING": KeyRing.make(),
        "SWITCHBOARD_HTTP_PORT": str(free_port()),
    }
    for command in (["topics", "apply"], ["database", "apply"]):
        done = image.run([*image.entrypoint, *command], given)
        assert done.returncode == 0, done.stderr
    return given


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_healthy_with_a_root_that_is_read_only(
    image: Stage, environment: dict[str, str], service: str
) -> None:
    """By the image's own health check, whose port is free here."""
    with image.started(["run", service], environment) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.strip() == ready_line(service):
                break
        else:
            pytest.fail("".join(said))
        healthy = image.run(image.health_check)
        assert healthy.returncode == 0, healthy.stderr
        if service == "gateway":
            with urlopen(f"http://127.0.0.1:{environment['SWITCHBOARD_HTTP_PORT']}/console/log-on", timeout=10) as page:
                assert b"htmx" in page.read(), "the console's libraries are in the image"


def test_what_keeps_the_root_read_only_does_so(image: Stage) -> None:
    writing = replace(image, user="0:0", entrypoint=["/bin/sh", "-c"])
    with writing.started(["echo a > /opt/a || echo b > /tmp/b && echo refused"], {}) as process:
        assert process.stdout is not None
        assert "Read-only file system" in (said := process.stdout.read())
        assert "refused" in said
