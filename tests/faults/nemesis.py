"""The faults of a round, each a coroutine that strikes while traffic goes on, and says what it did."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from functools import partial

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contracts import topics
from services.infrastructure.transactions import TRANSACTION_TIMEOUT_MS
from tests.faults.arena import Arena, Victim
from tests.faults.proxy import CommitProxy
from tests.faults.proxy import Strike as CommitStrike
from tests.faults.traffic import Traffic, publish_and_be_killed
from tests.faults.victim import STARTING, STEPS, Order, Sabotage, Step, Strike

Fault = Callable[["Round"], Awaitable[str]]
_PATIENCE_S = 8.0
_STARTS_THAT_MAY_FORGET = 3
"""How long a strike may be waited for; traffic that has ended brings no more transactions."""
_START_S = 20.0
"""The same, where a decider has to start first."""
_MID_TRANSACTION: tuple[Step, ...] = ("decided", "begun", "appended", "committed")


class Round:
    """One round: traffic, a fault, a decider that finishes the work, and the judgement."""

    def __init__(self, arena: Arena, number: int, seed: int, sabotage: Sabotage | None = None, size: int = 60) -> None:
        self.arena, self.number = arena, number
        self.dice = random.Random(f"{seed}/{number}")
        self._sabotage = sabotage
        self._running: asyncio.Task[None]
        self._traffic = Traffic(
            arena.kafka.bootstrap_servers,
            arena.partitions,
            f"r{number}",
            random.Random(f"{seed}/{number}/t"),
            size,
        )

    def order(self, **what: object) -> Order:
        """An order for a decider that owns everything, unless it says otherwise."""
        facts = {"own": self.arena.everything, "partitions": self.arena.partitions, "sabotage": self._sabotage}
        return Order.model_validate(facts | what)

    def strike(self, steps: tuple[Step, ...] = STEPS, **what: object) -> Strike:
        step = self.dice.choice(steps)
        count = 1 if step in STARTING else self.dice.randrange(1, 12)
        return Strike.model_validate({"step": step, "count": count} | what)

    async def wait(self, low: float, high: float) -> None:
        await asyncio.sleep(self.dice.uniform(low, high))

    async def run(self, fault: Fault, *, finisher: bool | None = None) -> tuple[str, list[str]]:
        """What it did, and what does not hold afterwards.

        The rest of the work is done by a fresh decider (``finisher``), or by who is left of the fault; where it is not
        said, and somebody is left, the dice decide.
        """
        self._running = asyncio.create_task(self._traffic.run())
        what, unanswered = "", list[str]()
        try:
            what = await fault(self)
            if finisher is None:
                finisher = not self.arena.survivors() or self.dice.random() < 0.5
            if finisher:
                self.arena.end_deciders()
                await self.arena.start(self.order()).ready()
            else:
                what += "; who was left finished the work"
            await self.finish()
        except TimeoutError:
            unanswered = ["1: commands are not answered, although a decider runs and the broker is there"]
        finally:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self.arena.end_deciders()
        log, found = await self.arena.judge(self._traffic.answers, self._traffic.published)
        decided = sum(len(log.of(topics.OUTCOMES, partition)) for partition in self.arena.everything)
        return f"{what} ({decided} outcomes on the log)", unanswered + found

    async def finish(self) -> None:
        """Returns when all that was and will be published in this round is decided. Raises TimeoutError."""
        await self._running
        await self.arena.settle()

    async def killed_publisher(self) -> None:
        """A publisher of its own, killed half-way; then the traffic's publishers send all of it again."""
        servers = self.arena.kafka.bootstrap_servers
        plan = await publish_and_be_killed(servers, f"r{self.number}-killed", self.dice)
        await self._traffic.wait_for_each([plan])


async def killed_at_a_step(on: Round) -> str:
    """SIGKILL at named points of the transaction, several owners in a row."""
    done = []
    for _ in range(3):
        strike = on.strike()
        victim = on.arena.start(on.order(strike=strike, topic_by_topic=on.dice.random() < 0.5))
        struck = await victim.struck_within(_PATIENCE_S)
        victim.kill()
        done.append(f"{strike.step} {strike.count}" if struck else "any time")
    return "SIGKILL at " + ", ".join(done)


async def stopped_and_woken(on: Round) -> str:
    """An owner is stopped, another takes over and works, and the first wakes up where it was."""
    strike = on.strike(_MID_TRANSACTION, signal="SIGSTOP")
    sleeper = on.arena.start(on.order(strike=strike))
    where = await _stopped(sleeper, strike)
    other = on.arena.start(on.order())
    await other.ready()
    await on.wait(0.2, 1.0)
    sleeper.wake()
    await on.wait(0.5, 2.0)
    other.kill()
    await on.wait(0.5, 1.0)
    return f"SIGSTOP {where}, another took over, and it woke"


async def _stopped(sleeper: Victim, strike: Strike) -> str:
    """Stops it where its order says; wherever it is, where it does not come there in time."""
    if await sleeper.struck_within(_PATIENCE_S):
        return f"at {strike.step} {strike.count}"
    sleeper.send(signal.SIGSTOP)
    return "at any time"


async def stopped_past_its_session(on: Round) -> str:
    """As the consumer group sees it: the session ends, the partitions move, the first one wakes up."""
    strike = on.strike(_MID_TRANSACTION, signal="SIGSTOP")
    sleeper = on.arena.start(on.order(own=None, strike=strike))
    where = await _stopped(sleeper, strike)
    other = on.arena.start(on.order(own=None))
    await other.ready()
    await on.wait(0.2, 1.0)
    sleeper.wake()
    await on.wait(1.0, 3.0)
    return f"SIGSTOP {where} past the session's end, and it woke"


async def broker_ended(on: Round, how: signal.Signals) -> str:
    """The broker ends amid the traffic and comes back; the decider goes on by itself."""
    victim = on.arena.start(on.order(own=on.dice.choice((None, on.arena.everything))))
    await victim.ready()
    await on.wait(0.0, 0.5)
    on.arena.strike_broker(how)
    await on.arena.restart_broker()
    await on.wait(0.5, 2.0)
    return f"{how.name} to the broker"


async def broker_ended_in_a_commit(on: Round, how: signal.Signals) -> str:
    """The broker gets the signal together with a request to commit; the decider goes on by itself."""
    loop, moment = asyncio.get_running_loop(), on.dice.uniform(0.0, 0.004)

    def strike() -> None:
        loop.call_later(moment, on.arena.strike_broker, how)

    proxy = CommitProxy(on.arena.kafka.port, "witnessed", on.dice.randrange(1, 25), on_strike=strike)
    await proxy.start()
    try:
        owner = on.arena.start(on.order(topic_by_topic=True), f"127.0.0.1:{proxy.port}")
        await owner.ready()
        came = await _within(_PATIENCE_S, proxy.struck)
        if came:
            await asyncio.sleep(moment + 0.01)
            await on.arena.restart_broker()
            await on.finish()
        owner.kill()
    finally:
        await proxy.stop()
    end = "after which the decider went on by itself" if came else "which did not come"
    return f"{how.name} to the broker {moment * 1000:.1f} ms after commit {proxy.count}, {end}"


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Whether it comes to be in that time."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


async def broker_ended_in_a_transaction(on: Round) -> str:
    """The broker is killed while transactions are open, whose owner is killed or wakes up after it."""
    strike = on.strike(("appended", "begun"), signal="SIGSTOP")
    sleeper = on.arena.start(on.order(strike=strike))
    where = await _stopped(sleeper, strike)
    on.arena.strike_broker(signal.SIGKILL)
    await on.arena.restart_broker()
    end = on.dice.choice(("killed", "woken"))
    if end == "killed":
        sleeper.kill()
    else:
        sleeper.wake()
        await on.wait(0.5, 1.5)
    return f"SIGKILL to the broker while an owner was {where}, which was then {end}"


async def broker_away_in_a_transaction(on: Round) -> str:
    """The broker is killed while transactions are open, and comes back only after they have timed out.

    Kafka then ends them as soon as it is up, and can take the partitions that it does not know yet for deleted ones,
    which need no markers: they stay open, until the next owner's commit would commit them. Not every start does, so
    there are several.
    """
    for _ in range(_STARTS_THAT_MAY_FORGET):
        strike = on.strike(("appended",), signal="SIGSTOP")
        sleeper = on.arena.start(on.order(strike=strike))
        where = await _stopped(sleeper, strike)
        on.arena.strike_broker(signal.SIGKILL)
        sleeper.kill()
        await asyncio.sleep(TRANSACTION_TIMEOUT_MS / 1000 + 2.0)
        await on.arena.restart_broker()
        await asyncio.sleep(2.5)  # nobody else ends them before it does
        if left := await on.arena.has_open_transactions():
            break
    markers = "forgot its markers" if left else "wrote its markers"
    return f"the broker was away for longer than a transaction may last, and {markers}; its owner was killed {where}"


async def rebalanced(on: Round) -> str:
    """Members join and leave the group, one politely and one not."""
    first = on.arena.start(on.order(own=None))
    await first.ready()
    second = on.arena.start(on.order(own=None))
    await second.ready()
    await on.wait(0.2, 0.8)
    first.send(signal.SIGTERM)
    third = on.arena.start(on.order(own=None))
    await third.ready()
    await on.wait(0.2, 0.8)
    second.kill()
    await on.wait(0.5, 1.0)
    return "a second and a third decider joined, the first left, the second was killed"


async def two_owners(on: Round) -> str:
    """Two owners are forced on every partition, one shortly after the other."""
    owners: list[Victim] = []
    for _ in range(2):
        owners.append(on.arena.start(on.order()))
        await on.wait(0.0, 0.15)
    await asyncio.gather(*(owner.ready() for owner in owners))
    await on.wait(1.0, 3.0)
    on.dice.choice(owners).kill()
    await on.wait(0.3, 0.8)
    return "two owners forced on every partition"


async def starts_interleaved(on: Round) -> str:
    """Two owners are forced on every partition; each is stopped amid its start while the other goes on with its own."""
    owners, where = [], []
    for _ in range(2):
        strike = on.strike(STARTING, signal="SIGSTOP")
        owners.append(on.arena.start(on.order(strike=strike)))
        where.append(await _stopped(owners[-1], strike))
    first = on.dice.randrange(2)
    for owner in (owners[first], owners[1 - first]):
        owner.wake()
        await on.wait(0.0, 1.5)
    await on.wait(1.0, 2.5)
    on.dice.choice(owners).kill()
    await on.wait(0.3, 0.8)
    return f"two owners, one stopped {where[0]}, then the other {where[1]}; owner {first + 1} woke first"


async def commit_struck(on: Round, how: CommitStrike, *, aborts: bool = False) -> str:
    """A request to commit is late, doubled or not answered; transactions are written topic by topic.

    The owner is killed in the very moment, or goes on for a while.
    """
    count, writes = on.dice.randrange(1, 3) if aborts else on.dice.randrange(3, 12), on.dice.randrange(1, 10)
    proxy = CommitProxy(on.arena.kafka.port, how, count, writes, aborts=aborts)
    await proxy.start()
    try:
        owner = on.arena.start(on.order(topic_by_topic=True), f"127.0.0.1:{proxy.port}")
        came, end = await _within(_START_S, proxy.struck), on.dice.choice(("killed", "left alone"))
        if came and how != "unanswered":
            came = await _within(_PATIENCE_S, proxy.delivered)
        if end == "left alone" or how == "unanswered":
            await on.wait(1.5, 3.0)
        owner.kill()
    finally:
        await proxy.stop()
    what = "abort" if aborts else "commit"
    went = "came" if came else "did not come"
    return f"{what} {count} {how}, after {writes} more writes; it {went}, and the owner was {end}"


async def publisher_killed(on: Round) -> str:
    """A publisher is killed half-way, and all its commands are sent again by another with the same ids."""
    owner = on.arena.start(on.order())
    await owner.ready()
    await on.killed_publisher()
    return "a publisher killed, its commands sent again"


async def writes_refused(on: Round) -> str:
    """The broker takes no events for a while: nothing may be answered without them."""
    owner = on.arena.start(on.order())
    await owner.ready()
    await _events_limit(on.arena, "200")
    await on.wait(1.0, 2.5)
    await _events_limit(on.arena, topics.EVENTS.settings["max.message.bytes"])
    await on.wait(0.5, 1.5)
    return "the broker refused events for a while"


async def _events_limit(arena: Arena, size: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=arena.kafka.bootstrap_servers)
    await admin.start()
    try:
        settings = topics.EVENTS.settings | {"max.message.bytes": size}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.EVENTS.name, settings)])
    finally:
        await admin.close()


FAULTS: dict[str, Fault] = {
    "killed-at-a-step": killed_at_a_step,
    "stopped-and-woken": stopped_and_woken,
    "broker-killed": partial(broker_ended, how=signal.SIGKILL),
    "two-owners": two_owners,
    "commit-late": partial(commit_struck, how="late"),
    "broker-killed-in-a-transaction": broker_ended_in_a_transaction,
    "broker-away-in-a-transaction": broker_away_in_a_transaction,
    "rebalanced": rebalanced,
    "broker-killed-in-a-commit": partial(broker_ended_in_a_commit, how=signal.SIGKILL),
    "starts-interleaved": starts_interleaved,
    "commit-doubled": partial(commit_struck, how="doubled"),
    "publisher-killed": publisher_killed,
    "commit-unanswered": partial(commit_struck, how="unanswered"),
    "writes-refused": writes_refused,
    "broker-terminated-in-a-commit": partial(broker_ended_in_a_commit, how=signal.SIGTERM),
    "abort-late": partial(commit_struck, how="late", aborts=True),
    "broker-terminated": partial(broker_ended, how=signal.SIGTERM),
    "stopped-past-its-session": stopped_past_its_session,
}

CONTROLS: dict[Sabotage, str] = {
    "no-fence": "two-owners",
    "no-abort-after-fence": "broker-away-in-a-transaction",
    "unawaited-send": "writes-refused",
    "kept-state": "commit-unanswered",
    "repeated-endtxn": "commit-late",
    "forgotten-ids": "killed-at-a-step",
}
"""What is taken away, and the fault that shows it."""
