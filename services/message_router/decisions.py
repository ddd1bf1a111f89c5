"""What happens to a message within a transaction: its decision, its statuses, its timers, each with its notices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

from contracts.message import rfc3339, unix_milliseconds
from contracts.message_routing import (
    DecisionRepeated,
    ExpectedRate,
    GuardFinding,
    MessageRouted,
    RoutingRefusal,
    RoutingRefused,
)
from contracts.message_status import (
    DoubleChargeRisk,
    ReservationSettled,
    SmsFallbackDue,
    SmsFallbackWithheld,
    StatusRefused,
    WithheldReason,
)
from contracts.usage import MessageCharged
from services.domain.message_routing.lifecycle import (
    DoubleCharge,
    Effect,
    FallbackDue,
    FallbackWithheld,
    Outcome,
    Settled,
    at_time,
    begin,
    begin_again,
    with_status,
)
from services.domain.message_routing.rates import Rates
from services.domain.message_routing.route import (
    Decision,
    Message,
    NoUnit,
    Pool,
    needs_unit,
    route,
    utc_day,
)
from services.message_router.daily_messages import DailyMessages, counts_today
from services.message_router.messages import MessageRow
from services.message_router.notices import Subject, to_json_bytes
from services.message_router.requests import RouteRequest, StatusReport
from services.message_router.scheduling_resources import LockedResources
from services.message_router.settings_replica import RoutedChannel
from services.message_router.work import Work, is_decidable, needed_count

NOT_ROUTED = "The message was not routed; route it by RouteMessage before its statuses are reported."
_WITHHELD: dict[WithheldReason, str] = {
    "ChannelTypeWithoutFallback": "An SMS may follow messages of whatsapp and viber channels only.",
    "SmsNotActivated": "Activate SMS is off, so no SMS may follow.",
    "SmsSwitchedOff": "Activate SMS was switched off after the request, so no SMS follows.",
    "Delivered": "The message was delivered, so no SMS follows.",
    "Read": "The message was read, so no SMS follows.",
    "ChannelRetired": "The channel was retired after the request, so no SMS follows.",
}


def handle_request(work: Work, request: RouteRequest) -> None:
    """Decides a request, or lets it wait for its settings. One that came before gets its decision again."""
    known = work.messages.get(request.key)
    if known is None or known.lacks_request:
        row = MessageRow.requested(request, work.now) if known is None else known.with_request(request)
        work.messages[request.key] = row
        if row.refusal is not None:
            _refused(work, row, row.refusal)
        elif is_decidable(row, work.channels):
            decide(work, row)
    elif known.digest != request.digest:
        sentence = "Another message had this id before; give each message an id of its own."
        refused = RoutingRefused(message=request.subject.message, reason="MessageIdReused", sentence=sentence)
        work.tell(request.subject, refused, request.record)
    elif known.state != "waiting":
        routed = None if known.decision is None else MessageRouted.model_validate_json(known.decision)
        refused_before = None if known.refusal is None else RoutingRefused.model_validate_json(known.refusal)
        repeated = DecisionRepeated(message=request.subject.message, routed=routed, refused=refused_before)
        work.tell(request.subject, repeated, request.record)


def decide(work: Work, row: MessageRow) -> None:
    """Decides a message whose settings are known, and applies the statuses that came before."""
    channel = work.channels[row.subject.channel]
    if row.decision is not None:
        _take_over(work, row, row.decision, channel.settings.channel_type)
        return
    if channel.switches.retired:
        refuse(work, row, "ChannelRetired", retired_sentence(row.subject.channel))
        return
    decision, routed = decision_of(row, channel, work.resources, work.daily_messages, work.rates, work.now)
    if counts_today(routed):
        work.daily_messages.count(row.subject.channel, row.country.code or "")
    if decision.unit is not None:
        work.resources.take(decision.unit.resource, work.now)
        row.resource = decision.unit.resource
    row.state, row.changed = "routed", True
    encoded = to_json_bytes(routed)
    row.decided_at, row.settings_version, row.decision = work.now, routed.settings_version, encoded.decode()
    work.tell(row.subject, routed, encoded=encoded)
    outcome = begin(
        decision.route, decision.reserved_until, row.asked, channel.settings.channel_type, channel.switches, work.now
    )
    _become(work, row, outcome, row.subject, None)
    _handle_early(work, row)


def _take_over(work: Work, row: MessageRow, decision: str, channel_type: str) -> None:
    """Takes over the decision that was published before the database lost it: its unit and its day are counted."""
    route = MessageRouted.model_validate_json(decision).route
    row.state, row.changed = "routed", True
    decided_at = work.now if row.decided_at is None else row.decided_at
    _become(work, row, begin_again(row.life, route, row.asked, channel_type, decided_at), row.subject, None)
    _handle_early(work, row)


def _handle_early(work: Work, row: MessageRow) -> None:
    for report in work.early.pop(row.key, ()):
        handle_status(work, report)


def retired_sentence(channel: str) -> str:
    return f"Channel {channel!r} is retired."


def decision_of(
    row: MessageRow,
    channel: RoutedChannel,
    resources: LockedResources,
    daily_messages: DailyMessages,
    rates: Rates,
    now: int,
) -> tuple[Decision, MessageRouted]:
    """The decision, and as it is published. Changes nothing, so that a dry run is the same function."""
    message = Message(row.category, row.country, now)
    pool: Pool = NoUnit("NoResources")
    seen: dict[str, Any] | None = None
    if row.country.code is not None and needs_unit(channel.settings, message):
        pool, seen = resources.pool_of(row.country.code, now)
    counted = needed_count(row, channel)
    sent_today = None if counted is None else daily_messages.sent_today(*counted)
    decision = route(channel.settings, message, pool, rates, sent_today)
    return decision, routed_of(row, channel, decision, rates, now, seen, sent_today)


def routed_of(
    row: MessageRow,
    channel: RoutedChannel,
    decision: Decision,
    rates: Rates,
    now: int,
    seen: dict[str, Any] | None = None,
    sent_today: int | None = None,
) -> MessageRouted:
    """The decision as it is published. ``seen`` is what was seen of the pool, ``sent_today`` of the guard's counter."""
    rate, unit, guard = decision.rate, decision.unit, decision.guard
    return MessageRouted(
        message=row.subject.message,
        route=decision.route,
        rule=decision.rule,
        sentence=decision.sentence,
        category=row.category,
        country=row.country.code,
        country_source=row.country.source,
        recipient_hash=row.recipient_hash,
        resource=None if unit is None else unit.resource,
        sender=None if unit is None else unit.sender,
        fee_class=decision.fee_class,
        rate=None
        if rate is None
        else ExpectedRate(amount=f"{rate.amount:f}", currency=rate.currency, book=rates.version),
        international=decision.international,
        settings_version=channel.settings.version,
        rate_book=rates.version or None,
        reserved_until=None if decision.reserved_until is None else rfc3339(decision.reserved_until),
        guard=None if guard is None else GuardFinding(mode=guard.mode, limit=guard.limit, sentence=guard.sentence),
        pool=seen,
        sent_today=sent_today,
        decided_at=rfc3339(now),
    )


def refuse(work: Work, row: MessageRow, reason: RoutingRefusal, sentence: str) -> None:
    """Refuses a message for good, and the statuses that came before."""
    refused = RoutingRefused(message=row.subject.message, reason=reason, sentence=sentence)
    work.tell(row.subject, refused)
    _refused(work, row, refused.model_dump_json())


def _refused(work: Work, row: MessageRow, refusal: str) -> None:
    row.state, row.refusal, row.changed = "refused", refusal, True
    _handle_early(work, row)


def refuse_status(work: Work, report: StatusReport) -> None:
    """Refuses a status of a message that was not routed."""
    refused = StatusRefused(message=report.subject.message, reason="NotRouted", sentence=NOT_ROUTED)
    work.tell(report.subject, refused, report.via, report.status)


def handle_status(work: Work, report: StatusReport) -> None:
    """Applies a status, or keeps it until its message is decided. The same one again changes nothing."""
    row = work.messages.get(report.key)
    if row is None or row.state == "waiting":
        work.early[report.key].append(report)
    elif (report.via, report.status) in row.life.seen:
        return
    elif row.state == "refused":
        row.life, row.changed = replace(row.life, seen=row.life.seen | {(report.via, report.status)}), True
        refuse_status(work, report)
    else:
        work.counted.append(report)
        outcome = with_status(row.life, report.status, report.via, work.now, report.received_at)
        _become(work, row, outcome, report.subject, report)


def handle_timer(work: Work, row: MessageRow) -> None:
    """Applies the timers that are over, by the switches as they are now."""
    if row.state == "routed":
        switches = work.channels[row.subject.channel].switches
        _become(work, row, at_time(row.life, work.now, switches), row.subject, None)


def _become(work: Work, row: MessageRow, outcome: Outcome, cause: Subject, report: StatusReport | None) -> None:
    if outcome.message != row.life:
        row.life, row.changed = outcome.message, True
    for effect in outcome.effects:
        _publish(work, row, effect, cause, report)


def _publish(work: Work, row: MessageRow, effect: Effect, cause: Subject, report: StatusReport | None) -> None:
    message, version = row.subject.message, work.channels[row.subject.channel].settings.version
    match effect:
        case Settled():
            _settle(work, row, effect, cause, report)
        case FallbackDue():
            work.tell(cause, SmsFallbackDue(message=message, trigger=effect.trigger, settings_version=version))
        case FallbackWithheld():
            withheld = SmsFallbackWithheld(
                message=message,
                trigger=effect.trigger,
                reason=effect.reason,
                sentence=_WITHHELD[effect.reason],
                settings_version=version,
            )
            work.tell(cause, withheld)
        case DoubleCharge():
            sentence = "The message arrived after the SMS fallback: both are charged."
            at = rfc3339(work.now) if report is None else report.at
            work.tell(cause, DoubleChargeRisk(message=message, status=effect.status, at=at, sentence=sentence))
        case _:
            assert_never(effect)


def _settle(work: Work, row: MessageRow, settled: Settled, cause: Subject, report: StatusReport | None) -> None:
    assert row.resource is not None and row.decided_at is not None  # noqa: S101, PT018 -- it has a reservation
    if settled.ended != "posted":
        work.resources.give_back(row.resource, row.decided_at)
    elif settled.late:
        work.resources.take(row.resource, row.decided_at)
    data = ReservationSettled(
        message=row.subject.message, resource=row.resource, ended=settled.ended, late=settled.late
    )
    work.tell(cause, data, settled.ended)
    if settled.ended == "posted" and report is not None:
        work.charge(cause, _charge(work, row, report, late=settled.late))


def _charge(work: Work, row: MessageRow, report: StatusReport, *, late: bool) -> MessageCharged:
    """The charge, at the rate of the status's day; a day that is still to come counts as today."""
    today = utc_day(work.now)
    day = utc_day(max(0, min(unix_milliseconds(report.at), work.now)))
    rate = work.rates.on(day, row.country.code, "scheduled")
    return MessageCharged(
        message=row.subject.message,
        country=row.country.code or "",
        resource=row.resource or "",
        fee_class="scheduled",
        amount=None if rate is None else f"{rate.amount:f}",
        currency=None if rate is None else rate.currency,
        rate_book=work.rates.version or None,
        settings_version=row.settings_version or 0,
        posted_at=report.at,
        day=day.isoformat(),
        booked_on=today.isoformat(),
        late=late,
    )
