"""The decider is killed at each step of its transaction, and while it shares partitions: nothing lost or doubled."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition

from contracts import topics
from services.decider import partition_owner
from services.decider import restore as restoring
from services.decider.config import DeciderConfig, KafkaConfig
from services.decider.service import Decider
from services.domain.url_policy import Allowlist
from services.infrastructure.embedded.process import free_port
from services.infrastructure.vault import KeyRing
from tests.faults.decider.process import STARTING, STEPS, SelfSignal, Step
from tests.faults.decider.round import Round
from tests.faults.decider.testbed import Testbed

_COMMANDS_A_CHANNEL = 16


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with Testbed(tmp_path_factory.mktemp("testbed")) as testbed:
        yield testbed


@pytest.mark.timeout(180)
@pytest.mark.parametrize("step", ["fenced", "appended", "committed"])  # `make faults` plays all
def test_killed_with_commands_waiting(testbed: Testbed, step: Step) -> None:
    """Everything is on the log once, in options, and with its outcome: the checker reads the whole of it."""

    async def kill(on: Round) -> str:
        count = 1 if step in STARTING else 2
        decider = on.testbed.start(on.options(self_signal=SelfSignal(step=step, count=count)))
        assert await decider.down_within(60)
        assert decider.process.poll() == -signal.SIGKILL
        return step

    turn = Round(testbed, STEPS.index(step), seed=7, size=_COMMANDS_A_CHANNEL)
    _, found = asyncio.run(turn.run(kill))

    assert found == []


async def test_a_cancellation_that_nobody_asked_for_ends_no_owner(
    testbed: Testbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka, stopped while its broker is away, has let one out: the partition then stood still for ever."""
    restored = 0

    async def restore(*arguments: Any) -> Any:
        nonlocal restored
        restored += 1
        if restored == 1:
            raise asyncio.CancelledError
        return await restoring.restore(*arguments)

    monkeypatch.setattr(partition_owner, "restore", restore)
    config = DeciderConfig(0, testbed.partitions, KeyRing.parse(KeyRing.make()), Allowlist.parse((), never=()))
    owning = partition_owner.PartitionOwner(KafkaConfig(testbed.kafka.bootstrap_servers, {}), config)
    try:
        await owning.serving.wait()
    finally:
        await owning.stop()
    assert restored == 2


async def test_it_is_ready_without_what_another_was_given_meanwhile() -> None:
    """Two start at once: the first is assigned everything, and soon only a part of it."""

    def start_owner(partition: int) -> partition_owner.PartitionOwner:
        config = DeciderConfig(partition, 1, KeyRing.parse(KeyRing.make()), Allowlist.parse((), never=()))
        return partition_owner.PartitionOwner(KafkaConfig(f"127.0.0.1:{free_port()}", {}), config)

    decider = Decider(start_owner)
    decider.on_partitions_assigned([TopicPartition(topics.COMMANDS.name, 0)])
    serving = asyncio.create_task(decider.serving())
    await asyncio.sleep(0.1)
    assert not serving.done()

    decider.on_partitions_assigned([])
    await serving
    await decider.stop()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_two_share_the_partitions_and_one_ends(testbed: Testbed, end: signal.Signals) -> None:
    async def end_one(on: Round) -> str:
        first, second = (on.testbed.start(on.options(own=None)) for _ in range(2))
        await first.ready()
        await second.ready()
        first.send(end)
        assert await first.down_within(20)
        return end.name

    turn = Round(testbed, 10 + end, seed=7, size=_COMMANDS_A_CHANNEL)
    _, found = asyncio.run(turn.run(end_one, finisher=False))

    assert found == []
