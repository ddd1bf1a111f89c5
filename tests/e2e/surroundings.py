"""Surroundings that Switchboard did not choose: other code, another locale, another database's variables, odd users."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_HOME = Path(__file__).parents[2]
SWITCHBOARD = (
    sys.executable,
    "-I",
    "-c",
    f"import sys; sys.path.insert(1, {str(_HOME)!r}); from services.cli.main import run; run()",
)
_NAMELESS = ("unshare", "--user", "--map-user=54321", "--map-group=54321", "--")


class Surroundings:
    """A user without a name and a home, in a directory of foreign code that must not run.

    Attributes:
        directory: the working directory.
        command: what stands before the words of a ``switchboard`` command.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "services").mkdir(parents=True)
        for module in (directory / "services" / "__init__.py", directory / "json.py"):
            module.write_text("raise SystemExit('other code ran')\n")
        (directory / ".psqlrc").write_text("\\q\n")
        allowed = subprocess.run((*_NAMELESS, "true"), capture_output=True, check=False).returncode == 0
        self.command = (*(_NAMELESS if allowed else ()), *SWITCHBOARD)  # a machine may forbid user namespaces

    def run(self, environment: dict[str, str], *words: str) -> None:
        """A command of Switchboard, which must succeed."""
        done = subprocess.run(
            (*self.command, *words),
            cwd=self.directory,
            env=self.around(environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def around(self, environment: dict[str, str]) -> dict[str, str]:
        cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        dropped = ("HOME", "USER", "LOGNAME", "PG")
        return {name: value for name, value in environment.items() if not name.startswith(dropped)} | {
            "PYTHONPATH": str(self.directory),
            "LC_ALL": "C",
            "PGSSLMODE": "require",
            "PGSERVICE": "elsewhere",
            "PGOPTIONS": "-c search_path=nowhere",
            "PSQLRC": str(self.directory / ".psqlrc"),
            "XDG_CACHE_HOME": cache,
        }
