"""A listener: fetches calls from the API, has them forwarded, and sends the answers back until they count or cannot."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from contracts.ids import new_id
from services.cli.backoff import backoff_s
from services.cli.http_api import ApiRefused, ApiUnavailable, HttpApi
from services.cli.local_receiver import LocalReceiver, NotForwarded

Fate = Literal["counts", "answered", "late", "unsent", "refused"]
"""Of an answer: it is the result; another listener's is; the time was over; no gateway could be told; or the call was
not one that was asked for, and was not forwarded."""

_WAIT_S = 3
_MARGIN_S = 0.5
"""Of the call's time, for the way of the answer."""
_REMEMBERED = 100
_LEAVE_TIMEOUT_S = 2.0
_FATES: dict[str, Fate] = {"CallAnswered": "answered", "CallOver": "late", "CallNotOffered": "late"}


class Forwarded(NamedTuple):
    """A call that came, and what became of its answer, which has ``status`` or ``failure``."""

    call: dict[str, Any]
    answer: dict[str, Any]
    duration_ms: int
    fate: Fate
    note: str | None = None


class Listener:
    """``on_call`` is told every call that was forwarded, ``on_note`` in a sentence that the API is away or back."""

    def __init__(
        self,
        api: HttpApi,
        receiver: LocalReceiver,
        channel: str,
        system: str | None,
        on_call: Callable[[Forwarded], None],
        on_note: Callable[[str], None],
    ) -> None:
        self._api, self._receiver, self._channel, self._system = api, receiver, channel, system
        self._on_call, self._on_note = on_call, on_note
        self._path = f"channels/{channel}/listeners/{new_id()}"
        self._in_work: set[str] = set()
        self._answers: dict[str, dict[str, Any]] = {}
        """Of the last calls: one that is offered again, as its invoker was lost, is not forwarded again."""

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Runs until cancelled, and then leaves. Raises `ApiRefused`."""
        try:
            await self._fetch(0)
            on_ready()
            async with asyncio.TaskGroup() as tasks:
                failures = 0
                while True:
                    try:
                        calls = await self._fetch(_WAIT_S)
                    except ApiUnavailable as error:
                        if not failures:
                            self._on_note(f"{error} Trying again …")
                        failures += 1
                        await _back_off(failures)
                        continue
                    if failures:
                        self._on_note("Listening again.")
                    failures = 0
                    for call in calls:
                        self._in_work.add(call["delivery"])
                        tasks.create_task(self._handle(call, time.monotonic() + call["remaining_s"]))
        finally:
            with contextlib.suppress(ApiUnavailable, ApiRefused):
                await self._api("DELETE", self._path, timeout_s=_LEAVE_TIMEOUT_S)

    async def _fetch(self, wait_s: int) -> list[dict[str, Any]]:
        asked = {"system": self._system, "known": sorted(self._in_work)}
        calls: list[dict[str, Any]] = (await self._api("PUT", f"{self._path}?wait={wait_s}", asked))["calls"]
        return calls

    async def _handle(self, call: dict[str, Any], deadline: float) -> None:
        delivery, begun, note, fate = call["delivery"], time.monotonic(), None, None
        try:
            answer = self._answers.get(delivery)
            if answer is None:
                try:
                    answer = await self._receiver.forward(call, self._channel, max(0.1, deadline - begun - _MARGIN_S))
                except NotForwarded as refusal:
                    answer, note, fate = {"failure": "broken"}, str(refusal), "refused"
                self._remember(delivery, answer)
            duration_ms = round((time.monotonic() - begun) * 1000)
            sent = await self._send(delivery, answer, deadline)
            self._on_call(Forwarded(call, answer, duration_ms, "refused" if fate else sent, note))
        finally:
            self._in_work.discard(delivery)

    def _remember(self, delivery: str, answer: dict[str, Any]) -> None:
        self._answers[delivery] = answer
        if len(self._answers) > _REMEMBERED:
            del self._answers[next(iter(self._answers))]

    async def _send(self, delivery: str, answer: dict[str, Any], deadline: float) -> Fate:
        """Sends the answer again and again until somebody has it, or the time of the call is over."""
        failures = 0
        while True:
            try:
                await self._api("PUT", f"{self._path}/answers/{delivery}", answer)
            except ApiUnavailable:
                if time.monotonic() > deadline:
                    return "unsent"
                failures += 1
                await _back_off(failures)
            except ApiRefused as refusal:
                if refusal.problem in _FATES:
                    return _FATES[refusal.problem]
                raise
            else:
                return "counts"


async def _back_off(failures: int) -> None:
    await asyncio.sleep(backoff_s(failures, 0.25, 5.0))
