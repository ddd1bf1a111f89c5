"""What becomes of a routed message, whatever comes in whatever order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.message_status import Status, Via
from services.domain.message_routing.lifecycle import (
    Asked,
    DoubleCharge,
    Effect,
    FallbackDue,
    FallbackWithheld,
    RoutedMessage,
    Settled,
    Switches,
    at_time,
    begin,
    begin_again,
    next_timer,
    with_published,
    with_status,
)

ON, OFF = Switches(sms_enabled=True, retired=False), Switches(sms_enabled=False, retired=False)
RETIRED = Switches(sms_enabled=True, retired=True)
NOW, UNTIL = 1_000_000, 1_600_000
FIRES = NOW + 60_000
ALL = Asked(frozenset({"failed", "undelivered", "unread"}), 60)


def _scheduled(asked: Asked | None = None) -> RoutedMessage:
    return begin("scheduled", UNTIL, asked, "whatsapp", ON, NOW).message


def _after(message: RoutedMessage, *steps: Any) -> tuple[RoutedMessage, list[Effect]]:
    """``steps``: a status of the chat app, or a moment, or (moment, switches)."""
    effects: list[Effect] = []
    for step in steps:
        what, switches = step if isinstance(step, tuple) else (step, ON)
        outcome = at_time(message, what, switches) if isinstance(what, int) else with_status(message, what, "chat", NOW)
        message = outcome.message
        effects += outcome.effects
    return message, effects


@pytest.mark.parametrize(
    ("steps", "effects"),
    [
        (["sent"], [Settled("posted", late=False)]),
        (["delivered", "sent", "read"], [Settled("posted", late=False)]),
        (["failed"], [Settled("voided", late=False)]),
        ([UNTIL], [Settled("expired", late=False)]),
        ([UNTIL - 1], []),
        ([UNTIL, "sent"], [Settled("expired", late=False), Settled("posted", late=True)]),
        ([UNTIL, UNTIL + 1], [Settled("expired", late=False)]),
        (["sent", UNTIL], [Settled("posted", late=False)]),
        (["failed", UNTIL, "failed"], [Settled("voided", late=False)]),
        (["sent", "sent"], [Settled("posted", late=False)]),
    ],
)
def test_a_reservation_ends_once(steps: list[Any], effects: list[Effect]) -> None:
    assert _after(_scheduled(), *steps)[1] == effects


@pytest.mark.parametrize(
    ("asked", "steps", "effects"),
    [
        (ALL, ["failed"], []),
        (ALL, ["failed", NOW, NOW + 1, FIRES], [FallbackDue("failed")]),
        (ALL, ["failed", "sent", NOW], [FallbackDue("failed")]),
        (ALL, ["failed", "delivered", NOW], [FallbackWithheld(None, "Delivered")]),
        (ALL, ["failed", "read", NOW], [FallbackWithheld(None, "Read")]),
        (Asked(frozenset({"failed"}), None), ["failed", NOW], [FallbackDue("failed")]),
        (ALL, ["failed", (NOW, OFF), NOW + 1], [FallbackWithheld("failed", "SmsSwitchedOff")]),
        (ALL, [FIRES], [FallbackDue("undelivered")]),
        (ALL, ["delivered", FIRES], [FallbackDue("unread")]),
        (ALL, ["read", FIRES], [FallbackWithheld(None, "Read")]),
        (Asked(frozenset({"undelivered"}), 60), ["delivered", FIRES], [FallbackWithheld(None, "Delivered")]),
        (Asked(frozenset({"unread"}), 60), [FIRES], [FallbackDue("unread")]),
        (Asked(frozenset({"failed"}), None), [FIRES, FIRES * 9], []),
        (Asked(frozenset({"undelivered"}), 60), ["failed", FIRES], [FallbackDue("undelivered")]),
        (ALL, [(FIRES, OFF)], [FallbackWithheld("undelivered", "SmsSwitchedOff")]),
        (ALL, ["failed", (NOW, RETIRED)], [FallbackWithheld("failed", "ChannelRetired")]),
        (ALL, [(FIRES, OFF), (FIRES + 1, ON)], [FallbackWithheld("undelivered", "SmsSwitchedOff")]),
        (ALL, [FIRES, "delivered", "read"], [FallbackDue("undelivered"), DoubleCharge("delivered")]),
        (ALL, ["delivered", "failed"], []),
    ],
)
def test_a_fallback_fires_at_most_once_or_says_why_not(asked: Asked, steps: list[Any], effects: list[Effect]) -> None:
    told = _after(_scheduled(asked), *steps)[1]
    assert [effect for effect in told if not isinstance(effect, Settled)] == effects


@pytest.mark.parametrize(
    ("channel_type", "switches", "reason"),
    [
        ("telegram", ON, "ChannelTypeWithoutFallback"),
        ("viber", OFF, "SmsNotActivated"),
        ("whatsapp", OFF, "SmsNotActivated"),
    ],
)
def test_a_fallback_that_cannot_be_is_told_with_the_decision(
    channel_type: str, switches: Switches, reason: str
) -> None:
    outcome = begin("not_applicable", None, ALL, channel_type, switches, NOW)
    assert outcome.effects == (FallbackWithheld(None, reason),)  # type: ignore[arg-type]
    assert _after(outcome.message, "failed", FIRES)[1] == []


def test_a_route_that_fails_lets_the_fallback_fire_at_once() -> None:
    begun = begin("failed", None, ALL, "whatsapp", ON, NOW)
    assert begun.effects == ()
    assert next_timer(begun.message) == NOW
    assert at_time(begun.message, NOW, ON).effects == (FallbackDue("failed"),)


STEPS = st.lists(
    st.tuples(
        st.one_of(
            st.tuples(st.sampled_from(["sent", "delivered", "read", "failed"]), st.sampled_from(["chat", "sms"])),
            st.integers(NOW, UNTIL + 100_000),
        ),
        st.sampled_from([ON, OFF, RETIRED]),
    ),
    max_size=12,
)


def _apply(message: RoutedMessage, what: tuple[Status, Via] | int, switches: Switches) -> tuple[RoutedMessage, Any]:
    if isinstance(what, int):
        return at_time(message, what, switches)
    return with_status(message, *what, NOW)


@given(STEPS, st.sampled_from([None, ALL, Asked(frozenset({"failed"}), None), Asked(frozenset({"unread"}), 90)]))
def test_whatever_comes_nothing_counts_twice_and_nothing_fires_while_sms_is_off(
    steps: list[tuple[Any, Switches]], asked: Asked | None
) -> None:
    message, told = _scheduled(asked), []
    for what, switches in steps:
        message, effects = _apply(message, what, switches)
        if switches is not ON:
            assert not any(isinstance(effect, FallbackDue) for effect in effects)
        told += effects
        assert _apply(message, what, switches) == (message, ()), "the same again changes nothing"
    ends = [effect.ended for effect in told if isinstance(effect, Settled)]
    assert ends in ([], ["posted"], ["voided"], ["expired"], ["expired", "posted"])
    assert sum(isinstance(effect, FallbackDue) for effect in told) <= 1
    assert sum(isinstance(effect, FallbackDue | FallbackWithheld) for effect in told) <= 1
    assert sum(isinstance(effect, DoubleCharge) for effect in told) <= 1


@given(STEPS)
def test_a_timer_runs_as_long_as_one_is_needed(steps: list[tuple[Any, Switches]]) -> None:
    message = _scheduled(ALL)
    for what, switches in steps:
        message, _ = _apply(message, what, switches)
    while (timer := next_timer(message)) is not None:
        after = at_time(message, timer, ON)
        assert after.message != message
        message = after.message
    assert message.is_settled


@example([(("delivered", "chat"), ON), (UNTIL, ON)], ALL)  # the receipt is no risk: it came before the fallback
@given(STEPS, st.sampled_from([None, ALL, Asked(frozenset({"failed"}), None), Asked(frozenset({"unread"}), 90)]))
def test_a_message_restored_from_what_was_told_tells_nothing_again(
    steps: list[tuple[Any, Switches]], asked: Asked | None
) -> None:
    """Its statuses come again, its timers do not; then it goes on as the one that was lost."""
    message, restored = _scheduled(asked), RoutedMessage(reservation="reserved", reserved_until=UNTIL)
    for moment, (what, switches) in enumerate(steps):
        message, effects = _apply(message, what, switches)
        for effect in effects:
            restored = with_published(restored, effect, moment)
            assert with_published(restored, effect, moment) == restored, "the same again changes nothing"
    restored, effects = begin_again(restored, "scheduled", asked, "whatsapp", NOW)
    assert effects == ()
    for moment, (what, _) in enumerate(steps):
        if not isinstance(what, int):
            status, via = what
            restored, effects = with_status(restored, status, via, NOW, moment)
            assert effects == ()
    shown = "reservation", "posted_late", "fallback", "seen", "double_charge_told"
    assert [getattr(restored, name) for name in shown] == [getattr(message, name) for name in shown]
    assert next_timer(restored) == next_timer(message)
    assert at_time(restored, 2**60, ON).effects == at_time(message, 2**60, ON).effects
    after, later = with_status(restored, "read", "chat", NOW, len(steps)), with_status(message, "read", "chat", NOW)
    assert after.effects == later.effects
