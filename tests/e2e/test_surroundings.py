"""`up` in surroundings in which it cannot run: it says so in one line."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

from services.infrastructure.embedded.process import free_port
from tests.e2e.surroundings import SWITCHBOARD


def _environment(data: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SWITCHBOARD_", "PG"))}
    ports = {f"SWITCHBOARD_{name}_PORT": str(free_port()) for name in ("HTTP", "KAFKA", "POSTGRES")}
    return environment | ports | {"SWITCHBOARD_DATA_DIR": str(data)}


def _line(environment: dict[str, str], *words: str, open_files: int | None = None) -> str:
    """The one line that it ends with, with exit code 2."""
    before = ("sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh") if open_files else ()
    done = subprocess.run((*before, *SWITCHBOARD, *words), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_data_directory_with_a_comma(tmp_path: Path) -> None:
    line = _line(_environment(tmp_path / "a,b"), "up")

    assert "has a comma, or a character that is no text" in line
    assert "set SWITCHBOARD_DATA_DIR to another" in line


def test_too_few_open_files(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 256

    line = _line(_environment(tmp_path), "up", open_files=256)

    assert "allows 256 open files, and the broker needs at least 1024; raise the hard limit" in line


def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    line = _line(_environment(tmp_path) | {"SWITCHBOARD_HTTP_HOST": "192.0.2.1"}, "up")

    assert "cannot listen on 192.0.2.1" in line
