"""The installed ``switchboard`` runs our code, whatever lies in the current directory or on ``PYTHONPATH``."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

_HOME = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def switchboard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a wheel that is installed in an environment of its own, with the libraries of this one."""
    directory = tmp_path_factory.mktemp("installed")
    wheels, environment = directory / "wheels", directory / "venv"
    _run("-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels))
    venv.create(environment)
    [wheel] = wheels.glob("*.whl")
    python = environment / "bin" / "python"
    _run("-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    [packages] = environment.glob("lib/*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return environment / "bin" / "switchboard"


def _run(*arguments: str) -> None:
    subprocess.run((sys.executable, *arguments), cwd=_HOME, check=True, capture_output=True)


@pytest.mark.parametrize("python_path", [None, "", ".", "foreign"])
def test_no_other_code_runs(switchboard: Path, tmp_path: Path, python_path: str | None) -> None:
    foreign = tmp_path / "foreign"
    for directory in (tmp_path, foreign):
        (directory / "services").mkdir(parents=True)
        for module in (directory / "services" / "__init__.py", directory / "json.py"):
            module.write_text("raise SystemExit('other code ran')\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if python_path is not None:
        environment["PYTHONPATH"] = python_path
    ran = subprocess.run(
        (switchboard, "rates", "check", "--help"),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Applies nothing." in ran.stdout
