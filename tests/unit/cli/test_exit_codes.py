"""Exit codes: 0 where the reader of the output left, 2 where nothing can be written, 70 with a traceback, never 1."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError

from services.cli import main
from services.cli.main import run


def _unread(*words: str, encoding: str = "utf-8") -> subprocess.Popen[bytes]:
    """The command with a standard output that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "services.cli", *words],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            stdout=writing,
            stderr=subprocess.PIPE,
        )
    finally:
        os.close(writing)


def test_a_reader_that_left() -> None:
    started = [_unread("explain"), _unread("--help"), _unread("send", "-h", encoding="ascii")]

    ended = [(process.communicate()[1], process.returncode) for process in started]

    assert ended == [(b"", 0)] * 3


def test_a_full_disk() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", "explain"], stdout=full, stderr=subprocess.PIPE, check=False
        )

    assert (done.returncode, done.stderr) == (2, b"switchboard: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version(option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code(monkeypatch, option) == 0
    assert capsys.readouterr().out == f"switchboard {version('switchboard')}\n"


@pytest.mark.parametrize("words", [("-h",), ("audit", "log", "-h"), ("send", "-h")])
def test_short_help(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(monkeypatch, *words) == 0
    assert "Usage: switchboard" in capsys.readouterr().out


def test_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(main, "adopt_connection", lambda _: 1 / 0)

    assert _exit_code(monkeypatch, "explain") == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def _exit_code(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr("sys.argv", ["switchboard", *words])
    monkeypatch.setattr("logging.lastResort", None)  # `run` takes it away
    with pytest.raises(SystemExit) as ended:
        run()
    return ended.value.code


def test_a_broker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of a command that publishes, and without the library's."""
    monkeypatch.delenv("SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("SWITCHBOARD_KAFKA_PORT", "9555")

    said = main._sentence(KafkaConnectionError("Unable to bootstrap from …"))

    assert said == "No broker answers at 127.0.0.1:9555."
