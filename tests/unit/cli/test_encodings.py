"""A terminal or pipe whose encoding lacks a letter gets another character in its place, never a traceback.

An ASCII stream is usually one whose locale was forgotten: click writes UTF-8 to it, rich's tables have a "?".
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.business_system import OpenBusinessSystem
from contracts.channel import EditChannel, RegisterChannel
from tests.audit import MadeUpLog, copy_of

NAME = "Büro 仓库 🧾"
COMMANDS = {
    "table": ("audit", "log", "--channel", "ch-1", "-o", "table"),
    "diff": ("audit", "diff", "1", "now", "--channel", "ch-1"),
}
SHOWN = {"ascii": ("B?ro ?? ?", NAME), "latin-1": ("Büro ?? ?",)}
READ_AS = {"ascii": "utf-8", "latin-1": "latin-1"}


@pytest.fixture(scope="module")
def copied_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = MadeUpLog()
    log.send("ch-1", RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True))
    log.send("ch-1", EditChannel(name=NAME))
    log.send("ch-1", OpenBusinessSystem(system="crm", name=NAME, api_request_url="https://a.example/x"))
    path = tmp_path_factory.mktemp("log") / "copy.jsonl"
    copy_of(path, log.records + log.state_records())
    return path


def _environment(encoding: str) -> dict[str, str]:
    return {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "TERM": "xterm", "COLUMNS": "200"}


@pytest.mark.parametrize("encoding", list(SHOWN))
@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_pipe(copied_log: Path, name: str, encoding: str) -> None:
    command = [sys.executable, "-m", "services.cli", *COMMANDS[name], "--from", str(copied_log)]

    done = subprocess.run(command, env=_environment(encoding), capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
    assert any(shown in done.stdout.decode(READ_AS[encoding]) for shown in SHOWN[encoding])
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(("name", "encoding"), [("table", "ascii"), ("diff", "latin-1")])
def test_a_terminal(copied_log: Path, name: str, encoding: str) -> None:
    outer, inner = pty.openpty()
    command = [sys.executable, "-m", "services.cli", *COMMANDS[name], "--from", str(copied_log)]
    process = subprocess.Popen(command, env=_environment(encoding), stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    said = b""
    try:
        while part := os.read(outer, 65_536):
            said += part
    except OSError:  # the other side is closed: that is the end
        pass
    finally:
        os.close(outer)

    assert process.wait() == 0, said
    assert any(shown in said.decode(READ_AS[encoding]) for shown in SHOWN[encoding])
    assert b"Traceback" not in said


@pytest.mark.parametrize("encoding", list(SHOWN))
def test_an_error_that_names_what_cannot_be_written(tmp_path: Path, encoding: str) -> None:
    command = [sys.executable, "-m", "services.cli", "audit", "verify", "--from", str(tmp_path / NAME)]

    done = subprocess.run(command, env=_environment(encoding), capture_output=True, check=False)

    assert done.returncode == 2
    [line] = done.stderr.decode(READ_AS[encoding]).splitlines()
    assert line.startswith("switchboard: ")


def test_a_copy_of_the_log_is_utf_8_whatever_the_locale(copied_log: Path, tmp_path: Path) -> None:
    written = tmp_path / "copy.jsonl"
    ascii_locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "services.cli", "audit", "replay", "--write-copy", str(written)]

    done = subprocess.run(
        [*command, "--from", str(copied_log)], env={**os.environ, **ascii_locale}, capture_output=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert NAME in written.read_text("utf-8")
