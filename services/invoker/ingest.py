"""From requests on Kafka to delivery rows: one a request, its body frozen, in the transaction of the checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from contracts.envelope import CommandEnvelope, Invalid, ReadableEnvelope, Unreadable, problem_of, read_command
from contracts.ids import new_id
from contracts.invocation import INVOCATION_DATA_LIMIT, InvocationFailed, InvokeIntent, WebhookBody
from contracts.message import compact_json, rfc3339
from services.infrastructure.postgres import Connection
from services.invoker.notifications import tell

PATIENCE = timedelta(seconds=10)
"""How long a request waits for settings that are not known yet, before it is refused."""


@dataclass(frozen=True, slots=True)
class UnreadableRequest:
    """A request that nobody can be answered about; it goes to the dead letters."""

    record: Any
    reason: str


class Ingest:
    """Applies batches of `switchboard.invocation-requests`; unreadable ones are handed to ``dead_letter``."""

    def __init__(self, dead_letter: Callable[[UnreadableRequest], Awaitable[None]]) -> None:
        self._dead_letter = dead_letter

    async def take(self, connection: Connection, _: int, records: Sequence[Any]) -> None:
        for record in records:
            try:
                envelope = read_command(record.value)
            except Unreadable as finding:
                await self._dead_letter(UnreadableRequest(record, str(finding)))
            except Invalid as finding:
                await _refuse_invalid(connection, finding.envelope, finding.problem)
            else:
                await _take_readable(connection, envelope)


async def _take_readable(connection: Connection, envelope: CommandEnvelope) -> None:
    if envelope.type != "InvokeIntent":
        problem = f"'type' is wrong: this topic takes InvokeIntent, not {envelope.type!r}."
        await _refuse_invalid(connection, envelope, problem)
        return
    try:
        request = InvokeIntent.model_validate(envelope.data)
        if request.data is not None and len(compact_json(request.data).encode()) > INVOCATION_DATA_LIMIT:
            await _refuse_invalid(connection, envelope, f"'data.data' is over {INVOCATION_DATA_LIMIT:,} bytes.")
            return
    except ValidationError as error:
        await _refuse_invalid(connection, envelope, problem_of(error, "data"))
        return
    except ValueError:
        await _refuse_invalid(connection, envelope, "'data.data' is wrong: it must be JSON that has no NaN.")
        return
    await _insert(connection, envelope, request)


async def _refuse_invalid(connection: Connection, envelope: CommandEnvelope | ReadableEnvelope, problem: str) -> None:
    await tell(
        connection,
        account=envelope.accountid,
        channel=envelope.subject,
        request_id=envelope.id,
        correlation_id=envelope.id,
        outcome=InvocationFailed(status="refused", reason="InvalidCommand", message=problem),
    )


async def _insert(connection: Connection, envelope: CommandEnvelope, request: InvokeIntent) -> None:
    now = datetime.now(UTC)
    expires = None if request.ttl_seconds is None else now + timedelta(seconds=request.ttl_seconds)
    delivery = new_id()
    inserted = await connection.fetchval(
        "INSERT INTO invoker.deliveries "
        "(id, account, channel, request_id, correlation_id, system, code, template, request, state, expires_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'waiting', $10) "
        "ON CONFLICT (account, channel, request_id) DO NOTHING RETURNING id",
        delivery,
        envelope.accountid,
        envelope.subject,
        envelope.id,
        envelope.correlationid or envelope.id,
        request.system,
        request.code,
        request.template,
        compact_json(request.model_dump(exclude_unset=True)),
        expires,
    )
    if inserted is not None:
        await resolve(connection, delivery)


async def resolve(connection: Connection, delivery: str) -> None:
    """Makes a waiting delivery due, its body frozen, if the settings it needs are known; refuses it after `PATIENCE`.

    Another account's channel looks like an unknown one.
    """
    row = await connection.fetchrow(
        "SELECT d.*, c.version, c.retired, c.channel IS NOT NULL AS known, "
        "s.system IS NOT NULL AS open, i.default_data "
        "FROM invoker.deliveries d "
        "LEFT JOIN invoker.channels c ON c.channel = d.channel AND c.account = d.account "
        "LEFT JOIN invoker.business_systems s ON s.channel = c.channel AND s.system = d.system "
        "LEFT JOIN invoker.intents i ON i.channel = c.channel AND i.system = d.system AND i.code = d.code "
        "WHERE d.id = $1 AND d.state = 'waiting' FOR UPDATE OF d",
        delivery,
    )
    if row is None:
        return
    request = json.loads(row["request"])
    refusal = _refusal(row, request)
    if refusal is None:
        data = json.loads(row["default_data"]) if request.get("data") is None else request["data"]
        body = WebhookBody(
            type=row["code"],
            timestamp=rfc3339(time.time_ns() // 1_000_000),
            account=row["account"],
            channel=row["channel"],
            business_system=row["system"],
            template=row["template"],
            data=data,
        )
        await connection.execute(
            "UPDATE invoker.deliveries SET state = 'due', due_at = now(), body = $2 WHERE id = $1",
            delivery,
            compact_json(body.model_dump()).encode(),
        )
    elif datetime.now(UTC) - row["created_at"] > PATIENCE:
        await refuse(connection, row, *refusal)
    else:
        await connection.execute(
            "UPDATE invoker.deliveries SET due_at = now() + interval '250 milliseconds' WHERE id = $1", delivery
        )


def _refusal(row: Any, request: dict[str, Any]) -> tuple[str, str] | None:
    """Why the request cannot be served with what is known now: a stable name and a sentence."""
    if not row["known"]:
        return "ChannelUnknown", f"The account has no channel {row['channel']!r}."
    if row["retired"]:
        return "ChannelIsRetired", f"Channel {row['channel']!r} is retired."
    wanted = request.get("settings_version") or 0
    if row["version"] < wanted:
        return "VersionYetToCome", f"Version {wanted} was asked for, but the channel is at version {row['version']}."
    if not row["open"]:
        return "BusinessSystemUnknown", f"No business system {row['system']!r} is open on this channel."
    if row["default_data"] is None:
        return "IntentUnknown", f"Business system {row['system']!r} has no intent {row['code']!r}."
    return None


async def refuse(connection: Connection, row: Any, reason: str, message: str) -> None:
    await connection.execute(
        "UPDATE invoker.deliveries SET state = 'refused', reason = $2, ended_at = now() WHERE id = $1",
        row["id"],
        reason,
    )
    await tell(
        connection,
        account=row["account"],
        channel=row["channel"],
        request_id=row["request_id"],
        correlation_id=row["correlation_id"],
        outcome=InvocationFailed(
            system=row["system"],
            code=row["code"],
            delivery=row["id"],
            status="refused",
            reason=reason,
            message=message,
        ),
    )
