"""A fault round for the decider: traffic, one fault, a decider that finishes the work, and the check of the log."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from contracts import topics
from tests.faults.decider.process import STARTING, STEPS, ProcessOptions, Sabotage, SelfSignal, Step
from tests.faults.decider.testbed import Testbed
from tests.faults.decider.traffic import Traffic, publish_and_be_killed

Fault = Callable[["Round"], Awaitable[str]]


class Round:
    """One round. The same seed and number give the same round."""

    def __init__(
        self, testbed: Testbed, number: int, seed: int, sabotage: Sabotage | None = None, size: int | None = None
    ) -> None:
        self.testbed, self.number = testbed, number
        self.rng = random.Random(f"{seed}/{number}")
        self._sabotage = sabotage
        self._running: asyncio.Task[None]
        self._traffic = Traffic(
            testbed.bootstrap_servers,
            testbed.partitions,
            f"r{number}",
            random.Random(f"{seed}/{number}/t"),
            size or testbed.commands_per_channel,
        )

    def options(self, **what: object) -> ProcessOptions:
        """The options of a decider that owns all partitions unless they say otherwise."""
        facts = {"own": self.testbed.all_partitions, "partitions": self.testbed.partitions, "sabotage": self._sabotage}
        return ProcessOptions.model_validate(facts | what)

    def self_signal(self, steps: tuple[Step, ...] = STEPS, **what: object) -> SelfSignal:
        step = self.rng.choice(steps)
        count = 1 if step in STARTING else self.rng.randrange(1, 12)
        return SelfSignal.model_validate({"step": step, "count": count} | what)

    async def wait(self, low: float, high: float) -> None:
        await asyncio.sleep(self.rng.uniform(low, high))

    async def run(self, fault: Fault, *, finisher: bool | None = None) -> tuple[str, list[str]]:
        """Plays the round; returns a description of the fault and the violations.

        A new decider (``finisher``) or the survivors of the fault finish the work; None chooses at random if there are
        survivors.
        """
        self._running = asyncio.create_task(self._traffic.run())
        what, unanswered = "", list[str]()
        try:
            what = await fault(self)
            if finisher is None:
                finisher = not self.testbed.survivors() or self.rng.random() < 0.5
            if finisher:
                self.testbed.end_deciders()
                await self.testbed.start(self.options()).ready()
            else:
                what += "; the survivors finished the work"
            await self.finish()
        except TimeoutError:
            unanswered = ["1: commands are not answered, although a decider runs and the broker is there"]
        finally:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self.testbed.end_deciders()
        log, found = await self.testbed.check(self._traffic.reported, self._traffic.published)
        decided = sum(len(log.of(topics.OUTCOMES, partition)) for partition in self.testbed.all_partitions)
        return f"{what} ({decided} outcomes on the log)", unanswered + found

    async def finish(self) -> None:
        """Waits until everything that this round publishes is decided. Raises TimeoutError."""
        await self._running
        await self.testbed.wait_until_decided()

    async def killed_publisher(self) -> None:
        """Kills a publisher half-way; the traffic's publishers then send all its commands again."""
        servers = self.testbed.bootstrap_servers
        plan = await publish_and_be_killed(servers, f"r{self.number}-killed", self.rng)
        await self._traffic.wait_for_each([plan])
