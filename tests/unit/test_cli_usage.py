"""What cannot be understood on the command line is answered by one line, exit code 2, and the way to the help."""

from __future__ import annotations

import logging

import pytest

from services.cli.main import run


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("nope", "No such command 'nope'; see `switchboard --help`."),
        ("send", "Missing argument 'command'; see `switchboard send --help`."),
        ("send ToggleSms", "Missing option '--channel'; see `switchboard send --help`."),
        ("send ToggleSms --channel ch-1 --zz", "No such option: --zz; see `switchboard send --help`."),
        ("audit at", "Missing argument 'TIME|VERSION'; see `switchboard audit at --help`."),
        ("run nobody", "There is no service 'nobody'; choose one of decider, projector, invoker, gateway."),
    ],
)
def test_one_line(
    arguments: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["switchboard", *arguments.split()])
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)  # `run` takes it away

    with pytest.raises(SystemExit) as ended:
        run()

    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [f"switchboard: {line}"]
