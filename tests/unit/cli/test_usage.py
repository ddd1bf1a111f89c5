"""What cannot be understood on the command line is answered by one line, exit code 2, and the way to the help."""

from __future__ import annotations

import logging

import pytest

from services.cli.main import run

ONE_SCOPE = (
    "A key is for one account (--account NAME), a provider (--provider NAME) or the platform (--platform): "
    "name one of them."
)
NO_BOSS = (
    "There is no role 'boss'; choose from "
    "viewer, editor, signature-keeper, auditor, approver, administrator, developer."
)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("xyz", "No such command 'xyz'; see `switchboard --help`."),
        ("send", "Missing argument 'COMMAND'; see `switchboard send --help`."),
        ("send ToggleSms", "Missing option '--channel'; see `switchboard send --help`."),
        ("send ToggleSms --channel ch-1 --zz", "No such option: --zz; see `switchboard send --help`."),
        ("audit at", "Missing argument 'TIME|VERSION'; see `switchboard audit at --help`."),
        (
            "api-keys create --label x",
            ONE_SCOPE,
        ),
        (
            "api-keys create --label x --account a --platform",
            ONE_SCOPE,
        ),
        (
            "api-keys create --label x --account a/b",
            "--account is 'a/b'; it must be 1 to 128 characters of A-Z a-z 0-9 . _ : -",
        ),
        (
            "api-keys create --label x --provider p --channel c",
            "A key for one channel needs the channel's account: add --account NAME.",
        ),
        (
            "api-keys create --label x --account a --role boss",
            NO_BOSS,
        ),
        (
            "api-keys create --label x --account a --network 10.0.0.1/8",
            "--network is wrong: 10.0.0.1/8 has host bits set; write it like 192.0.2.0/24.",
        ),
        (
            "api-keys create --label x --account a --expires yesterday",
            "--expires is 'yesterday'; it must be a time, like 2026-11-22T08:00:00Z, 2026-11-22 or now.",
        ),
        (
            "run nobody",
            "There is no service 'nobody'; choose one of decider, projector, invoker, message-router, gateway.",
        ),
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
