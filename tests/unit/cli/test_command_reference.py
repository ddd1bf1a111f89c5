"""What a command takes is said before anything is sent, and a misspelt one is answered with what may be meant."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from contracts.message_types import COMMANDS
from services.cli.command_reference import SENT_BY_PEOPLE, check_command, example_of, explain, read_data
from services.cli.errors import CliError


@pytest.mark.parametrize("name", list(SENT_BY_PEOPLE))
def test_every_example_can_be_sent(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_command(name, example_of(COMMANDS[name]))

    explain(name)

    said = capsys.readouterr().out
    assert said.startswith(f"{name}\n  {said.splitlines()[1].strip()}\n")
    assert f"switchboard send {name} --channel CHANNEL" in said
    for field in COMMANDS[name].model_fields.values():
        assert field.alias is None or f"  {field.alias} " in said


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    explain(None)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SENT_BY_PEOPLE)
    assert all(line.endswith(".") for line in lines)


@pytest.mark.parametrize(
    ("command", "data", "sentence"),
    [
        ("TogleSms", {}, "There is no command 'TogleSms'. Did you mean 'ToggleSms'?"),
        ("toggle-sms", {}, "Did you mean 'ToggleSms'?"),
        ("Nothing", {}, "There is no command 'Nothing'. `switchboard explain` lists them all."),
        (
            "ToggleSms",
            {"enabeld": True},
            "'enabled' is missing; 'enabeld' is not a known field. Did you mean 'enabled'?",
        ),
        ("ToggleSms", {"enabled": "maybe"}, "'enabled' is wrong: input should be a valid boolean"),
        (
            "EditIntent",
            {"system": "crm", "code": "A", "shcema": {}},
            "'shcema' is not a known field. Did you mean 'schema'?",
        ),
        ("ProposeChange", {"change": "c", "command": {"type": "SaveOtp", "data": {}}}, "no command 'SaveOtp'"),
        (
            "ProposeChange",
            {"change": "c", "command": {"type": "SaveApprovals", "data": {"required": []}}},
            "SaveApprovals: 'required_for' is missing; 'required' is not a known field. Did you mean 'required_for'?",
        ),
        (
            "ProposeChange",
            {"change": "c", "command": {"type": "ToggleSms", "data": {"enabled": True}}},
            "'command' is wrong: its 'type' is not one that can stand here",
        ),
    ],
)
def test_what_the_decider_would_refuse(command: str, data: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CliError) as refused:
        check_command(command, data)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("form", ["{}", "@{file}", "-", "@-"])
def test_data_from_a_file_or_standard_input(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"name": "Büro 仓库"}
    file = tmp_path / "data.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(data, ensure_ascii=False).encode())
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(data)))

    assert read_data(json.dumps(data) if form == "{}" else form.format(file=file)) == data


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("@/no/such/file", "--data: /no/such/file cannot be read: No such file or directory."),
        ("@", "--data:  cannot be read"),
        ("{", "--data is not JSON"),
        ("[" * 100_000, "--data is not JSON"),
        ("[]", "--data must be a JSON object"),
    ],
)
def test_data_that_cannot_be_read(text: str, sentence: str) -> None:
    with pytest.raises(CliError) as refused:
        read_data(text)
    assert str(refused.value).startswith(sentence)
