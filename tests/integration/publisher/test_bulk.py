"""The publisher sends many commands at once."""

from __future__ import annotations

import signal

import pytest

from contracts.channel import EditChannel
from contracts.kafka.publisher import OutcomeTimeout, Publisher
from contracts.message import CommandData
from contracts.sms import ToggleSms
from tests.faults.decider.testbed import DeciderProcess
from tests.installation import fresh
from tests.integration.publisher.commands import REGISTER


async def test_send_many_keeps_the_order_and_can_be_repeated(publisher: Publisher) -> None:
    channels = [fresh("bulk") for _ in range(20)]
    commands: list[tuple[str, CommandData, str]] = [(one, REGISTER, f"{one}:0") for one in channels]
    commands += [(one, EditChannel(name=f"Shop {step}"), f"{one}:{step}") for step in range(1, 20) for one in channels]
    counted: list[int] = []
    done = await publisher.send_many(commands, at_once=150, progress=counted.append)
    again = await publisher.send_many(commands)

    assert [outcome.version for outcome in done] == [step for step in range(1, 21) for _ in channels]
    assert counted == list(range(1, 401))
    assert all(outcome.repeated for outcome in again)
    assert [outcome.body for outcome in again] == [outcome.body for outcome in done]


async def test_publish_many_does_not_wait_for_outcomes(publisher: Publisher) -> None:
    """In order per channel. Sending again with the returned ids gets the outcomes."""
    channels = [fresh("ch") for _ in range(5)]
    await publisher.publish_many([(channel, REGISTER) for channel in channels])
    told: list[int] = []
    edits = [(channel, EditChannel(name=f"Shop {number}")) for number in range(20) for channel in channels]
    ids = await publisher.publish_many(edits, at_once=30, progress=told.append)

    assert told == [30, 60, 90, 100]
    assert len(set(ids)) == 100
    again = await publisher.send_many([(*edit, one) for edit, one in zip(edits, ids, strict=True)])
    assert all(outcome.accepted for outcome in again)
    assert [outcome.version for outcome in again] == [2 + number // 5 for number in range(100)]


async def test_send_many_stops_at_the_first_exception(
    decider: DeciderProcess, publisher: Publisher, channel: str
) -> None:
    decider.send(signal.SIGSTOP)
    try:
        with pytest.raises(OutcomeTimeout):
            await publisher.send_many([(channel, ToggleSms(enabled=True))] * 30, at_once=10, timeout=0.5)
    finally:
        decider.resume()

    assert publisher._outcomes._pending == {}
