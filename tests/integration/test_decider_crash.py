"""The decider is killed at each step of its transaction, and while it shares partitions: nothing lost or doubled."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition

from contracts import topics
from services.decider import owner
from services.decider import restore as restoring
from services.decider.batch import Deciding
from services.decider.service import Decider
from services.domain.address import Allowances
from services.infrastructure.embedded.process import free_port
from services.infrastructure.vault import KeyRing
from tests.faults.arena import Arena
from tests.faults.nemesis import Round
from tests.faults.victim import STARTING, STEPS, Step, Strike

_COMMANDS_A_CHANNEL = 16


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with Arena(tmp_path_factory.mktemp("arena")) as arena:
        yield arena


@pytest.mark.timeout(180)
@pytest.mark.parametrize("step", STEPS)
def test_killed_with_commands_waiting(arena: Arena, step: Step) -> None:
    """Everything is on the log once, in order, and with its outcome: the checker reads the whole of it."""

    async def kill(on: Round) -> str:
        count = 1 if step in STARTING else 2
        victim = on.arena.start(on.order(strike=Strike(step=step, count=count)))
        assert await victim.struck_within(60)
        assert victim.process.poll() == -signal.SIGKILL
        return step

    turn = Round(arena, STEPS.index(step), seed=7, size=_COMMANDS_A_CHANNEL)
    _, found = asyncio.run(turn.run(kill))

    assert found == []


async def test_a_cancellation_that_nobody_asked_for_ends_no_owner(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka, stopped while its broker is away, has let one out: the partition then stood still for ever."""
    restored = 0

    async def restore(*arguments: Any) -> Any:
        nonlocal restored
        restored += 1
        if restored == 1:
            raise asyncio.CancelledError
        return await restoring.restore(*arguments)

    monkeypatch.setattr(owner, "restore", restore)
    deciding = Deciding(0, arena.partitions, KeyRing.parse(KeyRing.make()), Allowances.parse((), never=()))
    owning = owner.PartitionOwner(owner.Connection(arena.kafka.bootstrap_servers, {}), deciding)
    try:
        await owning.serving.wait()
    finally:
        await owning.stop()
    assert restored == 2


async def test_it_is_ready_without_what_another_was_given_meanwhile() -> None:
    """Two start at once: the first is assigned everything, and soon only a part of it."""

    def own(partition: int) -> owner.PartitionOwner:
        deciding = Deciding(partition, 1, KeyRing.parse(KeyRing.make()), Allowances.parse((), never=()))
        return owner.PartitionOwner(owner.Connection(f"127.0.0.1:{free_port()}", {}), deciding)

    decider = Decider(own)
    decider.on_partitions_assigned([TopicPartition(topics.COMMANDS.name, 0)])
    serving = asyncio.create_task(decider.serving())
    await asyncio.sleep(0.1)
    assert not serving.done()

    decider.on_partitions_assigned([])
    await serving
    await decider.stop()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_two_share_the_partitions_and_one_ends(arena: Arena, end: signal.Signals) -> None:
    async def end_one(on: Round) -> str:
        first, second = (on.arena.start(on.order(own=None)) for _ in range(2))
        await first.ready()
        await second.ready()
        first.send(end)
        assert await first.struck_within(20)
        return end.name

    turn = Round(arena, 10 + end, seed=7, size=_COMMANDS_A_CHANNEL)
    _, found = asyncio.run(turn.run(end_one, finisher=False))

    assert found == []
