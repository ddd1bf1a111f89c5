"""What `switchboard follow` cannot do is answered by one line and exit code 2, before any broker is asked."""

from __future__ import annotations

import logging

import pytest

from contracts.cursor import Cursor, EventFilter
from contracts.kafka.subscriber import Subscriber
from services.cli.main import run

ELSEWHERE = str(Cursor("elsewhere", ()))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--cursor", "tomorrow"], "This is not a cursor"),
        (["--cursor", ELSEWHERE[:-1]], "This is not a cursor"),
        (["--cursor", ""], "This is not a cursor"),
        (["--type", "SmsExploded"], "--type is 'SmsExploded'; it must be of ChannelRegistered, "),
        (["--account", "no account"], "--account is 'no account'; it must be 1 to 128 characters"),
        (["--account", ""], "--account is missing; name the account there"),
        (["--channel", ""], "--channel is ''; it must be 1 to 128 characters"),
        (["--group", ""], "--group is empty"),
    ],
)
def test_one_line(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr("sys.argv", ["switchboard", "follow", *arguments])
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)  # `run` takes it away

    with pytest.raises(SystemExit) as ended:
        run()

    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith(f"switchboard: {sentence}")


def test_a_group_needs_a_name() -> None:
    """Kafka refuses one without, and its client would try again for ever."""
    with pytest.raises(ValueError, match="needs a name"):
        Subscriber("127.0.0.1:1", group="")


def test_a_text_alone_is_one_of_its_kind() -> None:
    assert EventFilter.of("acme", "ch-1", "SmsActivated", "sms") == EventFilter.of(
        "acme", ["ch-1"], ["SmsActivated"], ["sms"]
    )
