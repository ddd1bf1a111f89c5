"""`up` in surroundings that it did not choose: other code, other locales, other databases' variables, odd users."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from services.infrastructure.embedded.process import free_port
from tests.e2e.test_up import _ended

_HOME = Path(__file__).parents[2]
_SWITCHBOARD = (
    sys.executable,
    "-I",
    "-c",
    f"import sys; sys.path.insert(1, {str(_HOME)!r}); from services.cli.main import run; run()",
)
_NAMELESS = ("unshare", "--user", "--map-user=54321", "--map-group=54321", "--")


class _Started:
    """`up --demo`, read until it is ready."""

    def __init__(self, before: tuple[str, ...], environment: dict[str, str], directory: Path) -> None:
        self.process = subprocess.Popen(
            (*before, *_SWITCHBOARD, "up", "--demo"),
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said = ""
        for line in self.process.stdout or ():
            self.said += line
            if line == "Switchboard is ready\n":
                break


def _environment(data: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SWITCHBOARD_", "PG"))}
    ports = {f"SWITCHBOARD_{name}_PORT": str(free_port()) for name in ("HTTP", "KAFKA", "POSTGRES")}
    return environment | ports | {"SWITCHBOARD_DATA_DIR": str(data)}


@pytest.mark.timeout(240)
def test_other_code_locale_database_variables_and_a_user_without_a_name_and_a_home(tmp_path: Path) -> None:
    """And an address of IPv6, and a data directory with letters beyond ASCII in the C locale."""
    allowed = subprocess.run((*_NAMELESS, "true"), capture_output=True, check=False).returncode == 0
    nameless = _NAMELESS if allowed else ()  # a machine may forbid user namespaces
    foreign = tmp_path / "foreign"
    (foreign / "services").mkdir(parents=True)
    for module in (foreign / "services" / "__init__.py", foreign / "json.py"):
        module.write_text("raise SystemExit('other code ran')\n")
    (foreign / ".psqlrc").write_text("\\q\n")
    data = tmp_path / "Dätën \U0001f600"
    environment = _environment(data) | {
        "PYTHONPATH": str(foreign),
        "LC_ALL": "C",
        "PGSSLMODE": "require",
        "PGSERVICE": "elsewhere",
        "PGOPTIONS": "-c search_path=nowhere",
        "PSQLRC": str(foreign / ".psqlrc"),
        "SWITCHBOARD_HTTP_HOST": "::1",
    }
    environment["XDG_CACHE_HOME"] = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    for name in ("HOME", "USER", "LOGNAME"):
        environment.pop(name, None)

    up = _Started(nameless, environment, foreign)

    with _ended(up):  # type: ignore[arg-type]
        assert up.said.endswith("Switchboard is ready\n"), up.said
        assert "Receiver: verified the signature of" in up.said
        assert "http://[::1]:" in up.said
        assert list((data / "kafka" / "logs").glob("switchboard.events-*"))
        assert sorted(path.name for path in tmp_path.iterdir()) == [data.name, "foreign"]
        # Other commands too, which name who asks: one that sends, and one that reads broker and database.
        off = ("send", "ToggleSms", "--channel", "demo-whatsapp", "--account", "acme", "--data", '{"enabled": false}')
        for words in (off, ("audit", "verify", "--database")):
            done = subprocess.run(
                (*nameless, *_SWITCHBOARD, *words),
                cwd=foreign,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr


def _line(environment: dict[str, str], *words: str, open_files: int | None = None) -> str:
    """The one line that it ends with, with exit code 2."""
    before = ("sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh") if open_files else ()
    done = subprocess.run(
        (*before, *_SWITCHBOARD, *words), env=environment, capture_output=True, text=True, check=False
    )
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
