"""When a round is over: everything has an answer, and the topics have it."""

from __future__ import annotations

import asyncio
import time

from tests.faults.message_router.log import read_log
from tests.faults.message_router.testbed import Testbed
from tests.faults.message_router.traffic import Plan

SETTLE_TIMEOUT_S = 90.0
_UNSETTLED = """
    SELECT (SELECT count(*) FROM message_router.messages WHERE account = $1 AND state = 'waiting') AS waiting,
        (SELECT count(*) FROM message_router.messages WHERE account = $1 AND next_timer IS NOT NULL) AS timers,
        (SELECT count(*) FROM message_router.outbox) AS unpublished,
        (SELECT sum(next_offset) FROM switchboard.checkpoints
            WHERE consumer = 'switchboard.message-router' AND topic = 'switchboard.message-requests') AS read
"""
_OPEN = """
    SELECT m.message, m.partition, m.state, m.requested_at, m.asked_version, m.log_end, m.next_timer, p.next_offset,
        c.version, (extract(epoch FROM now()) * 1000)::bigint AS now
    FROM message_router.messages m LEFT JOIN message_router.channels c USING (channel)
    LEFT JOIN switchboard.checkpoints p ON p.consumer = 'switchboard.message-router'
        AND p.topic = 'switchboard.events' AND p.partition = m.partition
    WHERE m.account = $1 AND (m.state = 'waiting' OR m.next_timer IS NOT NULL) LIMIT 5
"""


class Violation(Exception):
    """Invariants do not hold; the text says which, with the evidence."""


async def wait_until_settled(testbed: Testbed, plan: Plan) -> None:
    """Waits until all requests are read, no timer runs, and everything is published."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    log = await read_log(testbed.kafka.bootstrap_servers, testbed.installation.settings.partitions)
    last: dict[int, int] = {}
    for record in log.topics["switchboard.message-requests"]:
        last[record.partition] = max(last.get(record.partition, 0), record.offset + 1)
    while True:
        [row] = await testbed.rows(_UNSETTLED, plan.account)
        behind = sum(last.values()) - (row["read"] or 0)
        if behind <= 0 and not (row["waiting"] or row["timers"] or row["unpublished"]):
            return
        if time.monotonic() > deadline:
            evidence = [dict(one) for one in await testbed.rows(_OPEN, plan.account)]
            raise Violation(f"not settled: {behind} requests unread, {dict(row)}: {evidence}")
        await asyncio.sleep(0.3)
