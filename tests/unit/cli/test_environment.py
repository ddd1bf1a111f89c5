"""The environment, as the command line reports it: a line per problem, before anything starts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from services.cli.main import run


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)  # `run` takes it away
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"):
        monkeypatch.delenv(f"SWITCHBOARD_{name}", raising=False)


def _run(monkeypatch: pytest.MonkeyPatch, arguments: str, **variables: str) -> object:
    for name, value in variables.items():
        monkeypatch.setenv(f"SWITCHBOARD_{name}", value)
    monkeypatch.setattr("sys.argv", ["switchboard", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        run()
    return ended.value.code


def test_a_service_reports_all_problems_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = _run(monkeypatch, "run invoker", HTTP_PORT="http", KEYRING="k1:c2VjcmV0", INVOKER_ALLOW="http://x")

    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert [line.split()[1] for line in lines] == [
        "SWITCHBOARD_HTTP_PORT",
        "SWITCHBOARD_KEYRING",
        "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS",
        "SWITCHBOARD_DATABASE_URL",
        "SWITCHBOARD_INVOKER_ALLOW",
    ]
    assert all(line.startswith("switchboard: SWITCHBOARD_") for line in lines)
    assert not any("c2VjcmV0" in line for line in lines)


def test_up_checks_everything_before_it_starts_a_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "up", PARTITIONS="0", LOG_FORMAT="xml") == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_an_unknown_variable_is_a_warning(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, "send ToggleSms --channel !", KEYRNG="x") == 2

    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith("switchboard: warning: SWITCHBOARD_KEYRNG is no variable of Switchboard")
    assert warning.endswith("did you mean SWITCHBOARD_KEYRING?")
    assert error.startswith("switchboard: --channel is '!'")


def test_a_file_of_issuers_is_read_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "oidc.yaml").write_text("issuers: [{issuer: s3cret}]")
    assert _run(monkeypatch, "up", OIDC_FILE=str(tmp_path / "oidc.yaml")) == 2

    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "switchboard: SWITCHBOARD_OIDC_FILE cannot be used: 'issuers.0.issuer' is wrong: it must begin"
    )
    assert "s3cret" not in line
