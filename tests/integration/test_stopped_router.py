"""A message router that hangs in the midst of a transaction: another takes its partitions over."""

from __future__ import annotations

import asyncio
import time

import asyncpg

from contracts.kafka.router import Router
from contracts.message_routing import RouteMessage
from services.infrastructure.postgres import LONGEST_TRANSACTION_S, pool_of
from tests.faults.message_router.process import ProcessOptions
from tests.faults.service_process import ServiceProcess
from tests.installation import Installation, fresh
from tests.messages import SINGAPOREAN, scheduled_channel

OTP = RouteMessage(recipient=SINGAPOREAN, category="authentication")
TAKEN_OVER_WITHIN_S = LONGEST_TRANSACTION_S + 20
"""Meanwhile the group notices that it lost a member. Where the router stops between two statements, it takes 15 s."""
OPEN_TRANSACTIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE wait_event = 'ClientRead' AND xact_start IS NOT NULL AND datname = current_database()
"""


async def test_a_stopped_router_holds_its_partition_for_a_bounded_time(installation: Installation) -> None:
    account = fresh("acct")
    channels = [(await scheduled_channel(installation, account))[0] for _ in range(12)]
    options = ProcessOptions(step="loaded", signal="SIGSTOP").model_dump_json()
    environment = installation.environment_of("message-router")
    log = installation.directory / "stopped-router.log"
    stopped = ServiceProcess("tests.faults.message_router.process", environment, log, options)
    database = await asyncpg.connect(installation.settings.database_url)
    try:
        await asyncio.wait_for(stopped.ready.wait(), 60)
        await asyncio.sleep(8)  # until the group shares its partitions among both
        async with Router(installation.bootstrap_servers, source="tests", account=account) as router:
            asked = [
                asyncio.create_task(router.route(OTP, channel=channel, timeout=2 * TAKEN_OVER_WITHIN_S))
                for channel in channels
            ]
            await asyncio.wait_for(stopped.signalled.wait(), 60)
            began = time.monotonic()
            assert await database.fetchval(OPEN_TRANSACTIONS) >= 1
            await asyncio.gather(*asked)
        assert time.monotonic() - began < TAKEN_OVER_WITHIN_S
    finally:
        await database.close()
        await stopped.stop()


async def test_the_database_ends_transactions_that_hang_anywhere(installation: Installation) -> None:
    """A client that stops between the messages of one statement is not idle: the whole transaction has a limit too."""
    pool = await pool_of(installation.settings, size=1, resets=False, takes_over=True)
    try:
        for setting, value in {"transaction_timeout": "1min", "idle_in_transaction_session_timeout": "15s"}.items():
            assert await pool.fetchval(f"SHOW {setting}") == value
    finally:
        await pool.close()
