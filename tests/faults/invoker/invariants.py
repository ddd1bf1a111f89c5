"""The invariants of the invoker after a round of faults."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from services.domain.webhook_signature import plain_token
from tests.faults.invoker.testbed import FINAL_STATES, Testbed


class Violation(Exception):
    """An invariant does not hold; the text says which, with the evidence."""


async def check(testbed: Testbed, requests: Iterable[tuple[str, str]]) -> None:
    """Checks the round's (request id, system) pairs. Raises `Violation`."""
    requested = dict(requests)
    rows = await testbed.rows("SELECT * FROM invoker.deliveries WHERE request_id = ANY($1::text[])", list(requested))
    require(len(rows) == len(requested), f"{len(rows)} rows for {len(requested)} requests")
    published = await published_results(testbed)
    for row in rows:
        delivery = f"{row['request_id']} at {row['system']}: {row['state']} {row['reason']} after {row['attempts']}"
        require(row["state"] == FINAL_STATES[row["system"]], delivery)
        require(row["lease"] is None, f"{delivery} holds a lease")
        calls = [call for call in testbed.receiver.calls[row["system"]] if call.webhook_id == row["id"]]
        require(len({call.body for call in calls}) <= 1, f"{delivery}: its body changed")
        require(
            (testbed.accepted[row["id"]] > 0) == (row["state"] == "delivered"),
            f"{delivery}: the receiver saw a different result",
        )
        results = {
            (result["id"], result["type"], result["data"]["status"]) for result in published.get(row["request_id"], [])
        }
        require(len(results) == (0 if row["state"] == "parked" else 1), f"{delivery}: published {results}")
        attempts = await testbed.rows("SELECT * FROM invoker.attempts WHERE delivery = $1 ORDER BY number", row["id"])
        numbers = [one["number"] for one in attempts]
        require(numbers == list(range(1, row["attempts"] + 1)), f"{delivery}: attempts {numbers}")
        unknown = sum(one["stage"] == "unknown" for one in attempts)
        require(len(calls) >= len(attempts) - unknown, f"{delivery}: {len(calls)} calls, attempts {numbers}")
    seen = {call.webhook_id for calls in testbed.receiver.calls.values() for call in calls}
    known = {row["id"] for row in await testbed.rows("SELECT id FROM invoker.deliveries")}
    require(seen <= known, f"calls without a delivery: {seen - known}")
    await _check_secrets(testbed)


async def _check_secrets(testbed: Testbed) -> None:
    """The invoker stores and logs no form of a secret."""
    stored = ""
    for table in ("deliveries", "attempts", "outbox", "queues", "circuits", "signatures", "secrets"):
        for row in await testbed.rows(f"SELECT * FROM invoker.{table}"):  # noqa: S608 -- our names
            stored += " ".join(
                value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in row.values()
            )
    stored += testbed.installation.output()
    for system, shown in testbed.secrets.items():
        secret = base64.b64decode(shown.removeprefix("whsec_"))
        for form in (shown.removeprefix("whsec_"), secret.hex(), plain_token(secret)):
            require(form not in stored, f"the secret of {system} is stored in clear text")


async def published_results(testbed: Testbed) -> dict[str, list[dict[str, Any]]]:
    """All results on `switchboard.invocations`, by request id."""
    results: dict[str, list[dict[str, Any]]] = {}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=testbed.kafka.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        topic_partitions = [
            TopicPartition(topics.INVOCATIONS.name, one) for one in range(testbed.installation.settings.partitions)
        ]
        consumer.assign(topic_partitions)
        ends = await consumer.end_offsets(topic_partitions)
        for tp in topic_partitions:
            consumer.seek(tp, 0)
            while await consumer.position(tp) < ends[tp]:
                for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, ()):
                    result = json.loads(record.value)
                    results.setdefault(result["causationid"], []).append(result)
    finally:
        await consumer.stop()
    return results


def require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 -- as assert
    if not holds:
        raise Violation(otherwise)
