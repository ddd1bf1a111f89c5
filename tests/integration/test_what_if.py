"""`switchboard messages what-if` on decisions of the router, on a real database."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.commands import run_here
from tests.message_router_database import RouterDatabase, message, report, router_database

SETTINGS = "otp_scheduling: {enabled: true, countries: [IN, ID], use_own_numbers: false}\n"


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[RouterDatabase]:
    """Three messages to IN, of which one has a unit, one to ID, which is not chosen, and one of marketing."""
    async with router_database(database_url) as made:
        await made.settings(own_numbers=True)
        await made.rate_book(1, "0.0136")
        await made.report(report("pool", 1))
        await made.apply(*(message(f"m{number}") for number in range(3)), message("m3", "+6281234567890"))
        await made.apply(message("m4", category="marketing"))
        yield made


def run(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_here({"SWITCHBOARD_DATABASE_URL": database_url}, "messages", "what-if", *arguments)


async def test_what_changes_is_told_by_country(router: RouterDatabase, database_url: str, tmp_path: Path) -> None:
    settings, rates = tmp_path / "settings.yaml", tmp_path / "rates.csv"
    settings.write_text(f"channel: ch\n{SETTINGS}")
    rates.write_text("country,fee_class,currency,amount,from\nIN,scheduled,AED,0.02,2026-01-01\n")
    today = datetime.now(UTC).date().isoformat()
    told = run(database_url, "--settings", str(settings), "--rates", str(rates), "--from", today)
    assert told.returncode == 0, told.stderr
    indonesia, india = map(json.loads, told.stdout.splitlines())
    assert (indonesia["country"], indonesia["messages"], indonesia["unknown"]) == ("ID", 1, 1)
    assert india == {
        "country": "IN",
        "messages": 4,
        "changes": [{"from": "own_number", "to": "failed", "messages": 2}],
        "unknown": 0,
        "unpriced": 3,
        "cost_before": {"AED": "0.0136"},
        "cost_after": {"AED": "0.02"},
    }
    assert "it is not known whether it would have had one" in told.stderr
    assert await router.pool.fetchval("SELECT count(*) FROM message_router.messages") == 5


@pytest.mark.usefixtures("router")
async def test_what_cannot_be_asked_is_one_line(database_url: str, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(SETTINGS)
    for arguments, sentence in (
        ((), "names no channel"),
        (("--channel", "elsewhere"), "does not know channel 'elsewhere'"),
        (("--channel", "ch", "--to", "2026-01-01"), "--from 2026-11-01 is after --to 2026-01-01."),
        (("--channel", "ch", "--rates", str(tmp_path / "none")), "cannot be read"),
    ):
        refused = run(database_url, "--settings", str(settings), "--from", "2026-11-01", *arguments)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
        assert sentence in refused.stderr
