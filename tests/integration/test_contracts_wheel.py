"""The contracts as a wheel of their own: alone in an empty environment, they publish a command and read its outcome."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import contracts
from contracts.channel import RegisterChannel
from tests.installation import Installation, fresh, run_apart

CONTRACTS = Path(contracts.__file__).parent


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and what it needs, nothing else."""
    place = tmp_path_factory.mktemp("alone")

    def run(*command: str | Path) -> None:
        done = subprocess.run(command, cwd=CONTRACTS, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place / "dist")
    run(sys.executable, "-m", "venv", place / "venv")
    wheel = next((place / "dist").glob("switchboard_contracts-*.whl"))
    interpreter = place / "venv" / "bin" / "python"
    run(interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[kafka,sealing]")
    return interpreter


def _run(python: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run((python, "-I", "-W", "error", "-c", code), capture_output=True, text=True, check=False)


def _examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (CONTRACTS / "README.md").read_text(), re.DOTALL)


@pytest.mark.timeout(180)
def test_the_readme_example(installation: Installation, python: Path) -> None:
    channel = fresh("wheel")

    async def register() -> None:
        async with installation.publisher("acme") as publisher:
            command = RegisterChannel(channel_type="viber", name="Shop", enterprise_authenticated=True)
            assert (await publisher.send(command, channel=channel)).accepted

    run_apart(register())
    example = _examples()[0].replace("127.0.0.1:9092", installation.bootstrap_servers)

    unknown = fresh("nobody")
    nobody = _run(python, example.replace("demo-whatsapp", unknown))
    accepted = _run(python, example.replace("demo-whatsapp", channel))

    assert nobody.stdout.startswith(f"Rejected: The account has no channel {unknown!r}"), nobody.stderr
    assert accepted.stdout == "Accepted: version 2\n", accepted.stderr

    following = _examples()[2].replace("127.0.0.1:9092", installation.bootstrap_servers)
    followed = _run(python, following.replace('["sms"]', f'["sms"], channels=["{channel}"], endless=False'))

    assert followed.stdout == f"{channel}: SmsActivated, version 2\n", followed.stderr


def test_it_imports_nothing_of_the_rest(python: Path) -> None:
    done = _run(
        python, "import switchboard_contracts.publisher, sys; print('services' in sys.modules)\nimport services"
    )

    assert done.stdout == "False\n"
    assert "No module named 'services'" in done.stderr


def test_the_sealing_example(python: Path) -> None:
    done = _run(python, _examples()[1])

    assert (done.returncode, done.stderr) == (0, "")
