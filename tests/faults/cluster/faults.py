"""The faults of a cluster round. Each is a coroutine that acts during the traffic and returns a description.

Two deciders share the partitions as members of a group, unless a fault needs one that owns them all.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from contracts import topics
from tests.faults.cluster.testbed import ClusterTestbed
from tests.faults.decider.commit_proxy import CommitProxy
from tests.faults.decider.faults import FAULT_TIMEOUT_S, is_set_within, stopped
from tests.faults.decider.faults import FAULTS as DECIDER_FAULTS
from tests.faults.decider.process import Sabotage
from tests.faults.decider.round import Fault, Round

_LED = (topics.EVENTS, topics.OUTCOMES, topics.CHANNEL_STATE, topics.COMMANDS)


def _on_cluster(fault: Callable[[Round, ClusterTestbed], Awaitable[str]]) -> Fault:
    async def play(round_: Round) -> str:
        assert isinstance(round_.testbed, ClusterTestbed)
        return await fault(round_, round_.testbed)

    return play


async def _two_deciders(round_: Round) -> None:
    deciders = [round_.testbed.start(round_.options(own=None)) for _ in range(2)]
    await asyncio.gather(*(decider.ready() for decider in deciders))
    await round_.wait(0.0, 1.0)


async def _a_leader(round_: Round, testbed: ClusterTestbed) -> tuple[int, str]:
    """A broker, and which partition it leads."""
    topic, partition = round_.rng.choice(_LED), round_.rng.choice(testbed.all_partitions)
    return await testbed.leader(topic, partition), f"the leader of {topic.name}/{partition}"


async def leader_killed(round_: Round, testbed: ClusterTestbed) -> str:
    """Kills a leader, and starts it again after others lead."""
    await _two_deciders(round_)
    number, who = await _a_leader(round_, testbed)
    await testbed.kill(number)
    await round_.wait(0.0, 6.0)
    await testbed.start_brokers(number)
    return f"SIGKILL to {who}"


async def leader_paused(round_: Round, testbed: ClusterTestbed) -> str:
    """Stops a leader for longer than its session, and resumes it: it must not believe that it leads."""
    await _two_deciders(round_)
    number, who = await _a_leader(round_, testbed)
    seconds = round_.rng.uniform(1.0, 12.0)
    testbed.signal(number, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        testbed.signal(number, signal.SIGCONT)
    return f"SIGSTOP to {who} for {seconds:.1f} s"


async def leader_cut_off(round_: Round, testbed: ClusterTestbed) -> str:
    """Cuts a leader off from clients and brokers; it goes on running, and what was sent to it arrives later."""
    await _two_deciders(round_)
    number, who = await _a_leader(round_, testbed)
    seconds = round_.rng.uniform(1.0, 12.0)
    testbed.links.cut_off(number)
    try:
        await asyncio.sleep(seconds)
    finally:
        testbed.links.heal()
    return f"{who} was cut off for {seconds:.1f} s"


async def disk_emptied(round_: Round, testbed: ClusterTestbed) -> str:
    """Kills a broker, and starts it again with an empty disk: it must fetch all, and lead nothing before."""
    await _two_deciders(round_)
    number, who = await _a_leader(round_, testbed)
    await testbed.kill(number)
    testbed.cluster.brokers[number].empty_disk()
    await round_.wait(0.0, 3.0)
    await testbed.start_brokers(number)
    return f"SIGKILL to {who}, which came back with an empty disk"


async def controller_lost(round_: Round, testbed: ClusterTestbed) -> str:
    """Kills the active controller, with its broker."""
    await _two_deciders(round_)
    number = await testbed.controller()
    await testbed.kill(number)
    await round_.wait(0.0, 6.0)
    await testbed.start_brokers(number)
    return f"SIGKILL to the active controller, broker {number}"


async def too_few_in_sync(round_: Round, testbed: ClusterTestbed) -> str:
    """Kills two brokers: the third may take nothing until one is back."""
    await _two_deciders(round_)
    numbers = round_.rng.sample(sorted(testbed.cluster.brokers), 2)
    for number in numbers:
        await testbed.kill(number)
        await round_.wait(0.0, 4.0)
    await testbed.start_brokers(*numbers)
    return f"SIGKILL to brokers {numbers[0]} and {numbers[1]}, one after the other"


async def rolling_restart(round_: Round, testbed: ClusterTestbed) -> str:
    """Restarts each broker in an orderly way, the next one once all replicas are in sync."""
    await _two_deciders(round_)
    for number, broker in testbed.cluster.brokers.items():
        await asyncio.to_thread(broker.stop)
        await testbed.start_brokers(number)
        if not await testbed.in_sync():
            return f"broker {number} does not come back in sync"
    return "each broker restarted"


async def broker_killed_in_a_commit(round_: Round, testbed: ClusterTestbed) -> str:
    """Kills a broker within milliseconds of a request to commit: markers are written to some leaders alone."""
    loop, moment = asyncio.get_running_loop(), round_.rng.uniform(0.0, 0.01)
    number, who = await _a_leader(round_, testbed)

    def kill() -> None:
        loop.call_later(moment, testbed.signal, number, signal.SIGKILL)

    proxy = CommitProxy(testbed.broker_ports, "witnessed", round_.rng.randrange(1, 25), on_trigger=kill)
    await proxy.start()
    try:
        owner = testbed.start(round_.options(topic_by_topic=True), proxy.bootstrap_servers)
        await owner.ready()
        triggered = await is_set_within(FAULT_TIMEOUT_S, proxy.triggered)
        if triggered:
            await asyncio.sleep(moment + 0.05)
            await asyncio.to_thread(testbed.cluster.brokers[number].stop)
            await testbed.start_brokers(number)
        owner.kill()
    finally:
        await proxy.stop()
    when = f"{moment * 1000:.1f} ms after commit {proxy.count}"
    return f"SIGKILL to {who} {when}{'' if triggered else ', which never happened'}"


async def leader_killed_in_a_transaction(round_: Round, testbed: ClusterTestbed) -> str:
    """Kills a leader while transactions are open, and then kills or resumes their owner."""
    self_signal = round_.self_signal(("appended", "begun"), signal="SIGSTOP")
    owner = testbed.start(round_.options(self_signal=self_signal))
    where = await stopped(owner, self_signal)
    number, who = await _a_leader(round_, testbed)
    await testbed.kill(number)
    await testbed.start_brokers(number)
    end = round_.rng.choice(("killed", "woken"))
    if end == "killed":
        owner.kill()
    else:
        owner.resume()
        await round_.wait(0.5, 1.5)
    return f"SIGKILL to {who} while an owner was {where}, which was then {end}"


FAULTS: dict[str, Fault] = {
    "leader-killed": _on_cluster(leader_killed),
    "leader-paused": _on_cluster(leader_paused),
    "leader-cut-off": _on_cluster(leader_cut_off),
    "disk-emptied": _on_cluster(disk_emptied),
    "controller-lost": _on_cluster(controller_lost),
    "too-few-in-sync": _on_cluster(too_few_in_sync),
    "rolling-restart": _on_cluster(rolling_restart),
    "broker-killed-in-a-commit": _on_cluster(broker_killed_in_a_commit),
    "leader-killed-in-a-transaction": _on_cluster(leader_killed_in_a_transaction),
} | {
    name: DECIDER_FAULTS[name]
    for name in (
        "commit-late",
        "commit-doubled",
        "commit-unanswered",
        "two-owners",
        "killed-at-a-step",
        "writes-refused",
    )
}

CONTROLS: dict[Sabotage, str] = {
    "no-fence": "two-owners",
    "unawaited-send": "writes-refused",
    "kept-state": "commit-unanswered",
    "repeated-endtxn": "commit-late",
    "forgotten-ids": "killed-at-a-step",
}
"""Each safeguard that can be removed, and the fault that shows its absence. Aborting what a killed broker left open is
not among them: another broker takes over, and writes the markers."""
