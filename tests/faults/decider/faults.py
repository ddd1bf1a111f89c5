"""The faults of a decider round. Each is a coroutine that acts during the traffic and returns a description."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from functools import partial

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contracts import topics
from services.infrastructure.transactions import TRANSACTION_TIMEOUT_MS
from tests.faults.decider.commit_proxy import CommitFault, CommitProxy
from tests.faults.decider.process import STARTING, Sabotage, SelfSignal, Step
from tests.faults.decider.round import Fault, Round
from tests.faults.decider.testbed import DeciderProcess, Testbed

FAULT_TIMEOUT_S = 8.0
"""How long to wait for a fault to happen; once the traffic has ended there are no more transactions."""
_RESTARTS = 3
_START_AND_FAULT_TIMEOUT_S = 20.0
"""The same, with the start of a decider included."""
_MID_TRANSACTION: tuple[Step, ...] = ("decided", "begun", "appended", "committed")


async def killed_at_a_step(round_: Round) -> str:
    """Kills several owners in a row, each at a step of its transaction."""
    done = []
    for _ in range(3):
        self_signal = round_.self_signal()
        decider = round_.testbed.start(
            round_.options(self_signal=self_signal, topic_by_topic=round_.rng.random() < 0.5)
        )
        is_down = await decider.down_within(FAULT_TIMEOUT_S)
        decider.kill()
        done.append(f"{self_signal.step} {self_signal.count}" if is_down else "any time")
    return "SIGKILL at " + ", ".join(done)


async def stopped_and_woken(round_: Round) -> str:
    """Stops an owner, lets another take over, and resumes the first one where it was."""
    self_signal = round_.self_signal(_MID_TRANSACTION, signal="SIGSTOP")
    owner = round_.testbed.start(round_.options(self_signal=self_signal))
    where = await stopped(owner, self_signal)
    other = round_.testbed.start(round_.options())
    await other.ready()
    await round_.wait(0.2, 1.0)
    owner.resume()
    await round_.wait(0.5, 2.0)
    other.kill()
    await round_.wait(0.5, 1.0)
    return f"SIGSTOP {where}, another took over, and the first resumed"


async def stopped(process: DeciderProcess, self_signal: SelfSignal) -> str:
    """Waits until it stops at its step; stops it wherever it is if it does not get there in time."""
    if await process.down_within(FAULT_TIMEOUT_S):
        return f"at {self_signal.step} {self_signal.count}"
    process.send(signal.SIGSTOP)
    return "at any time"


async def stopped_past_its_session(round_: Round) -> str:
    """Stops a group member for longer than its session, so that its partitions move, and resumes it."""
    self_signal = round_.self_signal(_MID_TRANSACTION, signal="SIGSTOP")
    owner = round_.testbed.start(round_.options(own=None, self_signal=self_signal))
    where = await stopped(owner, self_signal)
    other = round_.testbed.start(round_.options(own=None))
    await other.ready()
    await round_.wait(0.2, 1.0)
    owner.resume()
    await round_.wait(1.0, 3.0)
    return f"SIGSTOP {where} past the session's end, and the first resumed"


async def broker_ended(round_: Round, how: signal.Signals) -> str:
    """Ends and restarts the broker during the traffic; the decider recovers by itself."""
    decider = round_.testbed.start(round_.options(own=round_.rng.choice((None, round_.testbed.all_partitions))))
    await decider.ready()
    await round_.wait(0.0, 0.5)
    round_.testbed.signal_broker(how)
    await round_.testbed.restart_broker()
    await round_.wait(0.5, 2.0)
    return f"{how.name} to the broker"


async def broker_ended_in_a_commit(round_: Round, how: signal.Signals) -> str:
    """Ends the broker within milliseconds of a request to commit; the decider recovers by itself."""
    loop, moment = asyncio.get_running_loop(), round_.rng.uniform(0.0, 0.004)

    def end_broker() -> None:
        loop.call_later(moment, round_.testbed.signal_broker, how)

    proxy = CommitProxy(round_.testbed.broker_ports, "witnessed", round_.rng.randrange(1, 25), on_trigger=end_broker)
    await proxy.start()
    try:
        owner = round_.testbed.start(round_.options(topic_by_topic=True), proxy.bootstrap_servers)
        await owner.ready()
        triggered = await is_set_within(FAULT_TIMEOUT_S, proxy.triggered)
        if triggered:
            await asyncio.sleep(moment + 0.01)
            await round_.testbed.restart_broker()
            await round_.finish()
        owner.kill()
    finally:
        await proxy.stop()
    end = "after which the decider recovered by itself" if triggered else "which never happened"
    return f"{how.name} to the broker {moment * 1000:.1f} ms after commit {proxy.count}, {end}"


async def is_set_within(seconds: float, event: asyncio.Event) -> bool:
    """Whether the event is set in time."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


async def broker_ended_in_a_transaction(round_: Round) -> str:
    """Kills the broker while transactions are open, and then kills or resumes their owner."""
    self_signal = round_.self_signal(("appended", "begun"), signal="SIGSTOP")
    owner = round_.testbed.start(round_.options(self_signal=self_signal))
    where = await stopped(owner, self_signal)
    round_.testbed.signal_broker(signal.SIGKILL)
    await round_.testbed.restart_broker()
    end = round_.rng.choice(("killed", "woken"))
    if end == "killed":
        owner.kill()
    else:
        owner.resume()
        await round_.wait(0.5, 1.5)
    return f"SIGKILL to the broker while an owner was {where}, which was then {end}"


async def broker_away_in_a_transaction(round_: Round) -> str:
    """Kills the broker while transactions are open, and restarts it after they have timed out.

    Kafka then ends them as soon as it is up. It can take partitions that it has not loaded yet for deleted ones and
    write no markers there. Those transactions stay open until the next owner's commit would commit them. Not every
    restart does this, so there are several.
    """
    for _ in range(_RESTARTS):
        self_signal = round_.self_signal(("appended",), signal="SIGSTOP")
        owner = round_.testbed.start(round_.options(self_signal=self_signal))
        where = await stopped(owner, self_signal)
        round_.testbed.signal_broker(signal.SIGKILL)
        owner.kill()
        await asyncio.sleep(TRANSACTION_TIMEOUT_MS / 1000 + 2.0)
        await round_.testbed.restart_broker()
        await asyncio.sleep(2.5)  # until Kafka has ended the transactions
        if left := await round_.testbed.has_open_transactions():
            break
    markers = "missed markers" if left else "wrote its markers"
    return f"the broker was away for longer than the transaction timeout, and {markers}; the owner was killed {where}"


async def rebalanced(round_: Round) -> str:
    """Members join the group; one leaves it, one is killed."""
    first = round_.testbed.start(round_.options(own=None))
    await first.ready()
    second = round_.testbed.start(round_.options(own=None))
    await second.ready()
    await round_.wait(0.2, 0.8)
    first.send(signal.SIGTERM)
    third = round_.testbed.start(round_.options(own=None))
    await third.ready()
    await round_.wait(0.2, 0.8)
    second.kill()
    await round_.wait(0.5, 1.0)
    return "a second and a third decider joined, the first left, the second was killed"


async def two_owners(round_: Round) -> str:
    """Assigns every partition to two owners, one shortly after the other."""
    owners: list[DeciderProcess] = []
    for _ in range(2):
        owners.append(round_.testbed.start(round_.options()))
        await round_.wait(0.0, 0.15)
    await asyncio.gather(*(owner.ready() for owner in owners))
    await round_.wait(1.0, 3.0)
    round_.rng.choice(owners).kill()
    await round_.wait(0.3, 0.8)
    return "every partition assigned to two owners"


async def starts_interleaved(round_: Round) -> str:
    """Assigns every partition to two owners, and stops each during its start while the other continues."""
    owners, where = [], []
    for _ in range(2):
        self_signal = round_.self_signal(STARTING, signal="SIGSTOP")
        owners.append(round_.testbed.start(round_.options(self_signal=self_signal)))
        where.append(await stopped(owners[-1], self_signal))
    first = round_.rng.randrange(2)
    for owner in (owners[first], owners[1 - first]):
        owner.resume()
        await round_.wait(0.0, 1.5)
    await round_.wait(1.0, 2.5)
    round_.rng.choice(owners).kill()
    await round_.wait(0.3, 0.8)
    return f"two owners, one stopped {where[0]}, then the other {where[1]}; owner {first + 1} resumed first"


async def commit_disturbed(round_: Round, how: CommitFault, *, aborts: bool = False) -> str:
    """Delays or doubles a request to commit, or drops its response; transactions are written topic by topic.

    The owner is killed at once, or continues for a while.
    """
    count, writes = round_.rng.randrange(1, 3) if aborts else round_.rng.randrange(3, 12), round_.rng.randrange(1, 10)
    proxy = CommitProxy(round_.testbed.broker_ports, how, count, writes, aborts=aborts)
    await proxy.start()
    try:
        owner = round_.testbed.start(round_.options(topic_by_topic=True), proxy.bootstrap_servers)
        triggered, end = (
            await is_set_within(_START_AND_FAULT_TIMEOUT_S, proxy.triggered),
            round_.rng.choice(("killed", "left alone")),
        )
        if triggered and how != "unanswered":
            triggered = await is_set_within(FAULT_TIMEOUT_S, proxy.delivered)
        if how == "unanswered":
            await round_.finish()  # which only an owner does that has recovered by itself
        elif end == "left alone":
            await round_.wait(1.5, 3.0)
        owner.kill()
    finally:
        await proxy.stop()
    what = "abort" if aborts else "commit"
    went = "came" if triggered else "did not come"
    return f"{what} {count} {how}, after {writes} more writes; it {went}, and the owner was {end}"


async def publisher_killed(round_: Round) -> str:
    """Kills a publisher half-way; another sends all its commands again with the same ids."""
    owner = round_.testbed.start(round_.options())
    await owner.ready()
    await round_.killed_publisher()
    return "a publisher killed, its commands sent again"


async def writes_refused(round_: Round) -> str:
    """Makes the broker refuse events for a while: no command may be answered without its events."""
    owner = round_.testbed.start(round_.options())
    await owner.ready()
    await _events_limit(round_.testbed, "200")
    await round_.wait(1.0, 2.5)
    await _events_limit(round_.testbed, topics.EVENTS.settings["max.message.bytes"])
    await round_.wait(0.5, 1.5)
    return "the broker refused events for a while"


async def _events_limit(testbed: Testbed, size: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=testbed.bootstrap_servers)
    await admin.start()
    try:
        settings = topics.EVENTS.settings | testbed.more_settings | {"max.message.bytes": size}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.EVENTS.name, settings)])
    finally:
        await admin.close()


FAULTS: dict[str, Fault] = {
    "killed-at-a-step": killed_at_a_step,
    "stopped-and-woken": stopped_and_woken,
    "broker-killed": partial(broker_ended, how=signal.SIGKILL),
    "two-owners": two_owners,
    "commit-late": partial(commit_disturbed, how="late"),
    "broker-killed-in-a-transaction": broker_ended_in_a_transaction,
    "broker-away-in-a-transaction": broker_away_in_a_transaction,
    "rebalanced": rebalanced,
    "broker-killed-in-a-commit": partial(broker_ended_in_a_commit, how=signal.SIGKILL),
    "starts-interleaved": starts_interleaved,
    "commit-doubled": partial(commit_disturbed, how="doubled"),
    "publisher-killed": publisher_killed,
    "commit-unanswered": partial(commit_disturbed, how="unanswered"),
    "writes-refused": writes_refused,
    "broker-terminated-in-a-commit": partial(broker_ended_in_a_commit, how=signal.SIGTERM),
    "abort-late": partial(commit_disturbed, how="late", aborts=True),
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
"""Each safeguard that can be removed, and the fault that shows its absence."""
