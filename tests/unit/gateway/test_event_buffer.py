"""How the streams of an account are told of news."""

from __future__ import annotations

import asyncio
import time

from services.gateway.feed.event_buffer import EventBuffer, Signal


async def test_other_tasks_have_turns_between_an_accounts_many_streams() -> None:
    buffer, woken = EventBuffer(0), 0
    signals = [Signal() for _ in range(500)]
    buffer.signals.update(signals)

    async def stream(signal: Signal) -> None:
        nonlocal woken
        await signal.wait()
        woken += 1

    streams = [asyncio.create_task(stream(signal)) for signal in signals]
    await asyncio.sleep(0)
    buffer.notify_soon()
    steps = [0]
    while woken < 500:
        await asyncio.sleep(0)
        steps.append(woken - sum(steps))
    await asyncio.gather(*streams)

    assert max(steps) <= 64


async def test_streams_are_told_what_comes_while_others_are_told() -> None:
    buffer = EventBuffer(0)
    signals = [Signal() for _ in range(100)]
    buffer.signals.update(signals)
    buffer.notify_soon()
    await asyncio.sleep(0)
    for signal in signals:
        signal._is_set = False
    buffer.notify_soon()
    assert buffer.notifying is not None
    await buffer.notifying
    assert all(signal._is_set for signal in signals)


async def test_an_accounts_many_streams_leave_half_of_the_time_to_others() -> None:
    clock, told = asyncio.get_running_loop().time, list[float]()

    class SlowSignal(Signal):
        def set(self) -> None:
            told.append(clock())
            time.sleep(0.002)

    buffer = EventBuffer(0)
    buffer.signals.update(SlowSignal() for _ in range(40))
    buffer.notify_soon()
    await asyncio.sleep(0)
    buffer.notify_soon()  # it comes while they are told
    assert buffer.notifying is not None
    await buffer.notifying

    assert len(told) == 80
    assert told[40] - told[39] >= told[39] - told[0]
