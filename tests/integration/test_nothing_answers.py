"""Commands without a broker, a database or a gateway: one line, at once, and no password in it."""

from __future__ import annotations

import pytest

from tests.commands import run_here

AWAY = {
    "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "SWITCHBOARD_DATABASE_URL": "postgresql://somebody:secret@127.0.0.1:1/switchboard",
    "SWITCHBOARD_API_URL": "http://127.0.0.1:1",
    "SWITCHBOARD_API_KEY": "sb_key",
    "SWITCHBOARD_ACCOUNT": "acme",
}
BROKER, DATABASE = "No broker answers at 127.0.0.1:1.", "No database answers at 127.0.0.1:1."
GATEWAY = "No gateway answers at http://127.0.0.1:1 (SWITCHBOARD_API_URL)."


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("follow", BROKER),
        ("audit log --channel c", BROKER),
        ("deliveries list", DATABASE),
        ("invoke ORDER --channel c --system crm", DATABASE),
        ("projections status", DATABASE),
        ("database apply", DATABASE),
        ("trigger ORDER --channel c --system crm", GATEWAY),
    ],
)
def test_what_is_away_is_said_in_one_line(words: str, says: str) -> None:
    done = run_here(AWAY, *words.split())

    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"switchboard: {says}\n")
