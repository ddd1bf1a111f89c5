"""`what-if`: recorded decisions a second that `switchboard messages what-if` replays, beside a bare cursor over the
same rows that parses each decision; and the memory of the command for a tenth of them and for all."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contracts.otp_scheduling import OtpSchedulingSettings
from services.infrastructure.postgres import Pool
from services.message_router.what_if import Proposal, what_if
from tests.bench.report import Result, ratio_of, rounded_median
from tests.bench.testbed import Testbed
from tests.message_router_database import message, report, router_database

_DAYS = 10
_DAY_MS = 24 * 60 * 60 * 1000
_COUNTRIES = ("IN", "ID")
_BARE = """
    SELECT decided_at, decision FROM message_router.messages
    WHERE channel = 'ch' AND account = 'acme' AND requested_at >= $1 AND requested_at < $2
    ORDER BY requested_at, message
"""


async def run(testbed: Testbed) -> list[Result]:
    count = testbed.scaled(1_000_000, least=1_000)
    async with router_database(testbed.dsn) as router:
        await router.settings(own_numbers=True)
        await router.rate_book(1, "0.0136")
        await router.report(report("pool", 1))
        await router.apply(
            message("m0"), message("m1"), message("m2", "+6281234567890"), message("m3", category="utility")
        )
        until = _midnight() + _DAY_MS
        await _multiply(router.pool, count, until)
        since = until - _DAYS * _DAY_MS
        form = OtpSchedulingSettings(enabled=True, countries=_COUNTRIES, use_own_numbers=False)
        ours: list[float] = []
        bare: list[float] = []
        for turn in range(testbed.rounds + 1):
            started = time.perf_counter()
            told = await what_if(router.pool, "ch", Proposal(form, None, None, None), since, until)
            replayed = sum(one["messages"] for one in told) / (time.perf_counter() - started)
            read = await _bare_loop(router.pool, since, until)
            if turn:  # the first warms the database's cache
                ours.append(replayed)
                bare.append(read)
                testbed.log(f"replayed {replayed:,.0f}/s, bare {read:,.0f}/s")
    memory = [await _peak_mib(testbed, days) for days in (_DAYS // 10, _DAYS)]
    details = {"decisions": count, "memory": f"{memory[0]} MiB for a tenth of the days, {memory[1]} MiB for all"}
    limit_is = "a bare cursor that parses each decision"
    rates = rounded_median(ours), rounded_median(bare)
    return [Result("what-if", "decisions/s", *rates, limit_is, ratio_of(ours, bare), details=details)]


def _midnight() -> int:
    """Of today, in Unix milliseconds."""
    return time.time_ns() // 1_000_000 // _DAY_MS * _DAY_MS


async def _multiply(pool: Pool, count: int, until: int) -> None:
    """Repeats what the router recorded, spread evenly over the days before ``until``."""
    columns = [
        row["column_name"]
        for row in await pool.fetch(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = 'message_router' AND table_name = 'messages' ORDER BY ordinal_position"
        )
    ]
    requested = f"{until - 1} - n * {_DAYS * _DAY_MS}::bigint / {count}"
    changed = {"message": "'m' || n", "requested_at": requested, "decided_at": requested, "next_timer": "NULL"}
    values = ", ".join(changed.get(column, f"m.{column}") for column in columns)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "CREATE TEMP TABLE recorded ON COMMIT DROP AS SELECT *, row_number() OVER () - 1 AS nth"
            " FROM message_router.messages; DELETE FROM message_router.messages"
        )
        await connection.execute(
            f"INSERT INTO message_router.messages SELECT {values} FROM generate_series(0, {count - 1}) AS n"  # noqa: S608 -- our names
            " JOIN recorded AS m ON m.nth = n % (SELECT count(*) FROM recorded)"
        )
    await pool.execute("VACUUM ANALYZE message_router.messages", timeout=600)


async def _bare_loop(pool: Pool, since: int, until: int) -> float:
    """Decisions a second."""
    started, count = time.perf_counter(), 0
    async with pool.acquire() as connection, connection.transaction():
        async for row in connection.cursor(_BARE, since, until, prefetch=1_000):
            count += bool(json.loads(row["decision"]))
    return count / (time.perf_counter() - started)


async def _peak_mib(testbed: Testbed, days: int) -> int:
    """The most memory that the command had for the last ``days``."""
    file = testbed.directory / "settings.yaml"
    file.write_text("channel: ch\notp_scheduling: {enabled: true, countries: [IN, ID], use_own_numbers: false}\n")
    first = (datetime.now(UTC) - timedelta(days=days - 1)).date().isoformat()
    words = ("-m", "services.cli", "messages", "what-if", "--settings", str(file), "--from", first)
    environment = os.environ | {"SWITCHBOARD_DATABASE_URL": testbed.dsn}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    ended, peak = asyncio.ensure_future(process.wait()), 0
    while not ended.done():
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
        await asyncio.wait([ended], timeout=0.05)
    if ended.result() != 0:
        raise RuntimeError(f"what-if ended with {ended.result()}")
    return peak // 1024
