"""Whether a business system wants calls: its first 2xx to a signed call at its present URL shows it.

The rows are never waited for: a success that finds one locked leaves the verification to the next.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.infrastructure.postgres import Connection
from services.invoker.results.attempt import DeliveryResult
from services.invoker.results.retry_policy import Delivered

_VERIFY = """
    UPDATE invoker.business_systems s SET verified_at = now(), next_call_at = NULL FROM (
        SELECT s.channel, s.system FROM unnest($1::text[], $2::text[], $3::text[]) AS v(channel, system, url)
        JOIN invoker.business_systems s ON s.channel = v.channel AND s.system = v.system AND s.api_request_url = v.url
        WHERE s.verified_at IS NULL FOR UPDATE OF s SKIP LOCKED
    ) AS v
    WHERE s.channel = v.channel AND s.system = v.system
"""
_CALL_AT_ONCE = """
    UPDATE invoker.business_systems s SET next_call_at = NULL FROM (
        SELECT s.channel, s.system FROM unnest($1::text[], $2::text[]) AS v(channel, system)
        JOIN invoker.business_systems s ON s.channel = v.channel AND s.system = v.system
        WHERE s.next_call_at IS NOT NULL FOR UPDATE OF s SKIP LOCKED
    ) AS v
    WHERE s.channel = v.channel AND s.system = v.system
"""


async def update_verification(connection: Connection, recorded: Sequence[DeliveryResult]) -> None:
    """A success verifies its system. One that was not called after all may be called at once."""
    verified = [
        (*result.delivery.system_key, result.attempt.endpoint.api_request_url)
        for result in recorded
        if result.attempt is not None and isinstance(result.next_step, Delivered)
    ]
    not_called = [result.delivery.system_key for result in recorded if result.attempt is None]
    if verified:
        await connection.execute(_VERIFY, *map(list, zip(*verified, strict=True)))
    if not_called:
        await connection.execute(_CALL_AT_ONCE, *map(list, zip(*not_called, strict=True)))
