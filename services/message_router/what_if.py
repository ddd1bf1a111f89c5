"""Replays a channel's recorded decisions under proposed settings and rates: streamed, so that memory stays flat."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

from contracts.otp_scheduling import OtpSchedulingSettings
from contracts.spend_guard import SpendGuardSettings
from services.domain.message_routing.country import Country
from services.domain.message_routing.rates import Rates
from services.domain.message_routing.route import RoutingSettings
from services.domain.message_routing.what_if import CountryTotals, RecordedDecision, WhatIf
from services.infrastructure.postgres import Pool
from services.message_router.rate_book import CurrentRates
from services.message_router.scheduling_resources import pool_of_record
from services.message_router.settings_replica import guard_of, load_channels

_DECISIONS = """
    SELECT decided_at, decision FROM message_router.messages
    WHERE channel = $1 AND account = $2 AND requested_at >= $3 AND requested_at < $4 AND state = 'routed'
    ORDER BY requested_at, message
"""
_COUNT = """
    SELECT count(*) FROM (SELECT FROM message_router.messages WHERE channel = $1 AND account = $2
        AND requested_at >= $3 AND requested_at < $4 AND state = 'routed' LIMIT $5) AS found
"""
_PREFETCH = 1_000
_TURN = 50
"""Decisions after which others have a turn in the event loop; some milliseconds."""
_PROGRESS_EVERY = 10_000


class Proposal(NamedTuple):
    """None keeps what the channel has; the two facts of the business are kept where ``business`` is None."""

    otp_scheduling: OtpSchedulingSettings | None
    spend_guard: SpendGuardSettings | None
    business: tuple[str | None, dict[str, str]] | None
    rates: Rates | None


class UnknownChannel(Exception):
    """The router does not know the channel."""


class TooManyMessages(Exception):
    """There are more messages in these days than ``most``."""


def proposed_settings(current: RoutingSettings, proposal: Proposal) -> RoutingSettings:
    form, guard, business = proposal.otp_scheduling, proposal.spend_guard, proposal.business
    if form is not None:
        current = replace(
            current,
            scheduling_enabled=form.enabled,
            countries=frozenset(form.countries),
            use_own_numbers=form.use_own_numbers,
        )
    if guard is not None:
        current = replace(current, spend_guard=guard_of(guard))
    if business is not None:
        current = replace(current, home_country=business[0], international_rates_from=business[1])
    return current


async def what_if(
    pool: Pool,
    channel: str,
    proposal: Proposal,
    since: int,
    until: int,
    progress: Callable[[int], None] = lambda _: None,
    *,
    most: int | None = None,
) -> list[dict[str, Any]]:
    """What would differ for the messages that were requested from ``since`` up to before ``until`` (Unix
    milliseconds), by country. Raises `UnknownChannel`, and `TooManyMessages` for more than ``most``."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        known = (await load_channels(connection, {channel})).get(channel)
        if known is None:
            raise UnknownChannel
        of = channel, known.account, since, until
        if most is not None and await connection.fetchval(_COUNT, *of, most + 1) > most:
            raise TooManyMessages
        rates = proposal.rates or await CurrentRates().load(connection)
        replay, seen = WhatIf(proposed_settings(known.settings, proposal), rates), 0
        async for row in connection.cursor(_DECISIONS, *of, prefetch=_PREFETCH):
            replay.add(_recorded(row["decided_at"], json.loads(row["decision"])))
            seen += 1
            if seen % _TURN == 0:
                await asyncio.sleep(0)
            if seen % _PROGRESS_EVERY == 0:
                progress(seen)
    countries = sorted(replay.countries.items(), key=lambda one: one[0] or "")
    return [_shown(country, totals) for country, totals in countries]


def _recorded(decided_at: int, decision: dict[str, Any]) -> RecordedDecision:
    rate, seen = decision["rate"], decision["pool"]
    return RecordedDecision(
        category=decision["category"],
        country=Country(decision["country"], decision["country_source"]),
        decided_at=decided_at,
        route=decision["route"],
        rate=None if rate is None else (Decimal(rate["amount"]), rate["currency"]),
        pool=None if seen is None else pool_of_record(seen),
    )


def _shown(country: str | None, totals: CountryTotals) -> dict[str, Any]:
    return {
        "country": country,
        "messages": totals.messages,
        "changes": [
            {"from": before, "to": after, "messages": count}
            for (before, after), count in sorted(totals.changes.items())
        ],
        "unknown": totals.unknown,
        "unpriced": totals.unpriced,
        "cost_before": _amounts(totals.before),
        "cost_after": _amounts(totals.after),
    }


def _amounts(costs: dict[str, Decimal]) -> dict[str, str]:
    return {currency: f"{amount:f}" for currency, amount in sorted(costs.items())}
