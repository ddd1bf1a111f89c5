"""What a message would be routed to now: by the same function, with nothing reserved and nothing written."""

from __future__ import annotations

from contracts.message_routing import MessageRouted, RouteMessage, RoutingRefused
from services.domain.message_routing.country import country_of
from services.domain.message_routing.route import utc_day
from services.infrastructure.postgres import Pool
from services.message_router.daily_messages import DailyMessages
from services.message_router.decisions import decision_of, retired_sentence
from services.message_router.messages import MessageRow
from services.message_router.notices import Subject
from services.message_router.rate_book import CurrentRates
from services.message_router.requests import RouteRequest
from services.message_router.scheduling_resources import LockedResources
from services.message_router.settings_replica import load_channels
from services.message_router.work import needed_count


async def would_route(
    pool: Pool, rates: CurrentRates, account: str, channel: str, message_id: str, message: RouteMessage, now: int
) -> MessageRouted | RoutingRefused:
    """The decision at ``now`` (Unix milliseconds), without the recipient's hash, whose key only the router has.

    The router must know the channel.
    """
    subject, country = Subject(0, channel, account, message_id, message_id, message_id), country_of(message.recipient)
    request = RouteRequest(subject, "", message.category, country, "", None, None, message.settings_version, "")
    row = MessageRow.requested(request, now)
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        known = (await load_channels(connection, {channel}))[channel]
        if known.switches.retired:
            sentence = retired_sentence(channel)
            return RoutingRefused(message=message_id, reason="ChannelRetired", sentence=sentence)
        countries = set() if country.code is None else {country.code}
        resources = await LockedResources.read(connection, countries)
        counted = needed_count(row, known)
        counts = await DailyMessages.load(connection, () if counted is None else (counted,), utc_day(now))
        return decision_of(row, known, resources, counts, await rates.load(connection), now)[1]
