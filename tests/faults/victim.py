"""A decider that can be told when to die: ``python -m tests.faults.victim ORDER``, an `Order` as JSON.

It runs the product's own code. Only what an order names is changed: a signal to itself at a step, every topic of a
transaction written in a request of its own (as when their partitions have several leaders), or one sabotage, by which
the checker is checked. Ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, Literal
from uuid import uuid4

from aiokafka import TopicPartition
from aiokafka.producer import sender as aiokafka_sender
from pydantic import BaseModel, ConfigDict

from services.decider import owner, restore, service
from services.decider.batch import Deciding
from services.decider.owner import Connection, PartitionOwner
from services.decider.partition_state import PartitionState
from services.domain.address import Allowances
from services.infrastructure import transactions
from services.infrastructure.settings import Settings
from services.infrastructure.telemetry import set_up_logging
from services.infrastructure.transactions import OutgoingRecord, TransactionalProducer
from services.infrastructure.vault import KeyRing

READY = "victim is ready"

Step = Literal["started", "fenced", "restored", "decided", "begun", "appended", "committed", "adopted"]
STARTING: tuple[Step, ...] = ("started", "fenced", "restored")
"""Once for each owner: its epoch is taken, leftovers are aborted, the state is there."""
TRANSACTING: tuple[Step, ...] = ("decided", "begun", "appended", "committed", "adopted")
"""Once for each transaction."""
STEPS = (*STARTING, *TRANSACTING)

Sabotage = Literal[
    "no-fence", "no-abort-after-fence", "unawaited-send", "kept-state", "repeated-endtxn", "forgotten-ids"
]


class Strike(BaseModel):
    """The signal that it sends itself when it comes to the step for the ``count``-th time."""

    model_config = ConfigDict(frozen=True)

    step: Step
    count: int = 1
    signal: Literal["SIGKILL", "SIGSTOP"] = "SIGKILL"


class Order(BaseModel):
    """``own`` forces these partitions on it, past the consumer group; without, it joins the group."""

    model_config = ConfigDict(frozen=True)

    own: tuple[int, ...] | None = None
    partitions: int
    strike: Strike | None = None
    topic_by_topic: bool = False
    sabotage: Sabotage | None = None


def _striking(strike: Strike | None) -> Callable[[str], None]:
    left = 0 if strike is None else strike.count

    def on_step(step: str) -> None:
        nonlocal left
        if strike is not None and step == strike.step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), getattr(signal, strike.signal))

    return on_step


_append = TransactionalProducer.append


async def _append_topic_by_topic(
    self: TransactionalProducer, records: Iterable[OutgoingRecord], timestamp_ms: int
) -> dict[TopicPartition, int]:
    first: dict[TopicPartition, int] = {}
    for _, of_topic in groupby(sorted(records, key=lambda one: one.topic), key=lambda one: one.topic):
        first |= await _append(self, list(of_topic), timestamp_ms)
        await asyncio.sleep(0.005)
    return first


async def _append_and_forget(
    self: TransactionalProducer, records: Iterable[OutgoingRecord], timestamp_ms: int
) -> dict[TopicPartition, int]:
    for one in records:
        await self._producer.send(
            one.topic,
            one.value,
            key=one.key,
            partition=one.partition,
            headers=list(one.headers),
            timestamp_ms=timestamp_ms,
        )
    return {}


def _sabotage(what: Sabotage | None) -> None:
    """Takes one thing away that the algorithm needs."""
    product: Any
    match what:
        case None:
            pass
        case "no-fence":
            product = owner
            product.transactional_id = lambda partition: f"unfenced-{partition}-{uuid4()}"
        case "no-abort-after-fence":

            async def nothing(self: PartitionOwner, producer: TransactionalProducer) -> None:
                pass

            product = PartitionOwner
            product._abort_leftovers = nothing
        case "unawaited-send":
            product = TransactionalProducer
            product.append = _append_and_forget
        case "kept-state":
            kept: dict[int, PartitionState] = {}
            restored = restore.restore

            async def keep(servers: str, security: dict[str, Any], partition: int) -> PartitionState:
                if partition not in kept:
                    kept[partition] = await restored(servers, security, partition)
                return kept[partition]

            product = owner
            product.restore = keep
        case "repeated-endtxn":
            product = transactions
            product._SenderThatEndsOnce = aiokafka_sender.Sender
        case "forgotten-ids":
            product = restore
            product._remember = lambda state, record: None  # noqa: ARG005


async def _own(settings: Settings, order: Order, on_step: Callable[[str], None]) -> None:
    connection = Connection(settings.kafka_bootstrap_servers or "", {})
    keyring, allowances = KeyRing.parse(settings.keyring), Allowances.parse(())
    owners = [
        PartitionOwner(connection, Deciding(partition, order.partitions, keyring, allowances), on_step)
        for partition in order.own or ()
    ]
    await asyncio.gather(*(one.serving.wait() for one in owners))
    print(READY, flush=True)
    await asyncio.Event().wait()


async def _run(order: Order) -> None:
    settings = Settings.from_environment()
    on_step = _striking(order.strike)
    if order.own is not None:
        await _own(settings, order, on_step)
    else:
        await service.run(settings, ready=lambda: print(READY, flush=True), on_step=on_step)


def main() -> None:
    set_up_logging()
    order = Order.model_validate_json(sys.argv[1])
    _sabotage(order.sabotage)
    if order.topic_by_topic:
        product: Any = TransactionalProducer
        product.append = _append_topic_by_topic

    def end_with_parent() -> None:
        while os.read(0, 1024):
            pass
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()

    async def until_told() -> None:
        task = asyncio.create_task(_run(order))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    asyncio.run(until_told())


if __name__ == "__main__":
    main()
