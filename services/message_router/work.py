"""What a transaction knows and changes: loaded under its partitions' locks, changed in memory, and saved at once."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from contracts.message import EventData
from contracts.usage import MessageCharged
from services.domain.message_routing.rates import Rates
from services.domain.message_routing.route import Message, needs_count, needs_unit, utc_day
from services.infrastructure.postgres import Connection
from services.message_router.counters import CounterKey, add_counters, counted
from services.message_router.daily_messages import CountKey, DailyMessages
from services.message_router.messages import (
    MessageRow,
    add_statuses,
    add_waiting_statuses,
    load_messages,
    save_messages,
    take_waiting_statuses,
)
from services.message_router.notices import Subject, charge, notice
from services.message_router.outbox import OutboxRecord, add_to_outbox, lock_partitions
from services.message_router.rate_book import CurrentRates
from services.message_router.requests import MessageKey, RouteRequest, StatusReport
from services.message_router.scheduling_resources import LockedResources
from services.message_router.settings_replica import RoutedChannel, load_channels
from services.message_router.timeline import IN_TIMELINE, TimelineNotice, add_notices
from services.message_router.usage_rollup import add_usage


@dataclass(slots=True)
class Work:
    """``now`` (Unix milliseconds) is read after the locks were taken. It is not before what the transaction rests on:
    the requests' and the reports' times on the broker, whose clock may be ahead of ours. So a unit that is taken after
    a report was applied counts as taken after it.

    ``early`` are statuses of messages without a decision.
    """

    now: int
    messages: dict[MessageKey, MessageRow]
    channels: Mapping[str, RoutedChannel]
    resources: LockedResources
    rates: Rates
    numbers: dict[int, int]
    daily_messages: DailyMessages
    early: dict[MessageKey, list[StatusReport]] = field(default_factory=lambda: defaultdict(list))
    records: list[OutboxRecord] = field(default_factory=list)
    counted: list[StatusReport] = field(default_factory=list)
    charged: list[tuple[Subject, MessageCharged]] = field(default_factory=list)
    notices: list[TimelineNotice] = field(default_factory=list)
    counters: Counter[CounterKey] = field(default_factory=Counter)

    def tell(self, subject: Subject, data: EventData, *unique: str, encoded: bytes | None = None) -> None:
        """Publishes a notice once the transaction is committed."""
        self.records.append(notice(subject, data, self.now, *unique, encoded=encoded))
        self._remember(subject, data)

    def charge(self, subject: Subject, data: MessageCharged) -> None:
        self.charged.append((subject, data))
        self.records.append(charge(subject, data, self.now))
        self._remember(subject, data)

    def _remember(self, subject: Subject, data: EventData) -> None:
        if (counter := counted(data)) is not None:
            self.counters[subject.partition, counter[0], " ".join(counter[1])] += 1
        if isinstance(data, IN_TIMELINE):
            self.notices.append(TimelineNotice(subject, data))

    async def save(self, connection: Connection) -> None:
        await save_messages(connection, self.messages.values())
        await add_statuses(connection, self.counted, self.now)
        await add_notices(connection, self.notices, self.now)
        await add_waiting_statuses(connection, [one for several in self.early.values() for one in several])
        await self.resources.save(connection)
        await self.daily_messages.save(connection)
        await add_usage(connection, self.charged)
        await add_counters(connection, self.counters)
        await add_to_outbox(connection, self.numbers, self.records)


async def load_work(
    connection: Connection,
    rates: CurrentRates,
    partitions: Collection[int],
    requests: Iterable[RouteRequest],
    keys: Collection[MessageKey],
    refused: Collection[MessageKey] = (),
    not_before: int = 0,
) -> Work:
    """Locks the partitions, loads all that is known of the messages ``keys``, and locks the resources they may use.

    ``refused`` are messages that may be refused now, whose kept statuses are needed for that. ``not_before`` is the
    least that ``now`` may be.
    """
    numbers = await lock_partitions(connection, partitions)
    messages, with_statuses = await load_messages(connection, keys)
    channels = await load_channels(connection, {key[0] for key in keys})
    current = await rates.load(connection)
    undecided = [row for row in messages.values() if row.state == "waiting"]
    undecided += [MessageRow.requested(one, 0) for one in requests if one.key not in messages]
    decidable = [row for row in undecided if row.refusal is not None or is_decidable(row, channels)]
    if with_statuses:
        with_statuses &= {*(row.key for row in decidable), *refused}
    # What is restored from the topics is not decided again.
    decidable = [row for row in decidable if row.refusal is None and row.decision is None]
    taken = await take_waiting_statuses(connection, with_statuses)
    countries = {code for row in decidable if (code := _scheduled_country(row, channels)) is not None}
    names = {row.resource for row in messages.values() if row.resource is not None}
    resources = await LockedResources.lock(connection, countries, names)
    now = max(time.time_ns() // 1_000_000, not_before, resources.newest_report())
    counts = {key for row in decidable if (key := needed_count(row, channels[row.subject.channel])) is not None}
    daily_messages = await DailyMessages.load(connection, counts, utc_day(now))
    work = Work(now, messages, channels, resources, current, numbers, daily_messages)
    for report in taken:
        work.early[report.key].append(report)
    return work


def is_decidable(row: MessageRow, channels: Mapping[str, RoutedChannel]) -> bool:
    """Whether the settings that the request needs are known."""
    channel = channels.get(row.subject.channel)
    if channel is None or channel.account != row.subject.account:
        return False
    return channel.switches.retired or row.asked_version is None or row.asked_version <= channel.settings.version


def _scheduled_country(row: MessageRow, channels: Mapping[str, RoutedChannel]) -> str | None:
    """The country of which a unit is needed, if any."""
    settings = channels[row.subject.channel].settings
    return row.country.code if needs_unit(settings, Message(row.category, row.country, 0)) else None


def needed_count(row: MessageRow, channel: RoutedChannel) -> CountKey | None:
    """The count of today's messages that the decision depends on, if any."""
    country, guard = row.country.code, channel.settings.spend_guard
    return (row.subject.channel, country) if country is not None and needs_count(guard, row.category) else None
