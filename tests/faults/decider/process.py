"""A decider with injected faults: ``python -m tests.faults.decider.process OPTIONS``, a `ProcessOptions` as JSON.

It runs the product's own code. The options can add a signal to itself at a step, write every topic of a transaction in
a request of its own (as with several partition leaders), or remove one safeguard to show that the checker notices.
The process ends when its standard input closes.
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
from pydantic import BaseModel, ConfigDict

from services.decider import idempotency_window, partition_owner, restore, service
from services.decider.config import DeciderConfig, KafkaConfig
from services.decider.partition_owner import PartitionOwner
from services.decider.partition_state import PartitionState
from services.domain.url_policy import Allowlist
from services.infrastructure import transactions
from services.infrastructure.config import Settings
from services.infrastructure.kafka import security_options
from services.infrastructure.logging_setup import set_up_logging
from services.infrastructure.transactions import OutgoingRecord, TransactionalProducer
from services.infrastructure.vault import KeyRing
from services.schema_validation import validator

READY = "decider is ready"

Step = Literal["started", "fenced", "restored", "checking", "decided", "begun", "appended", "committed", "adopted"]
STARTING: tuple[Step, ...] = ("started", "fenced", "restored")
"""Once for each owner: epoch taken, leftover transactions aborted, state restored."""
TRANSACTING: tuple[Step, ...] = ("decided", "begun", "appended", "committed", "adopted")
"""Once for each transaction."""
STEPS = (*STARTING, *TRANSACTING)

Sabotage = Literal[
    "no-fence", "no-abort-after-fence", "unawaited-send", "kept-state", "repeated-endtxn", "forgotten-ids"
]


class SelfSignal(BaseModel):
    """A signal that the process sends to itself ``after_s`` the ``count``-th occurrence of a step."""

    model_config = ConfigDict(frozen=True)

    step: Step
    count: int = 1
    signal: Literal["SIGKILL", "SIGSTOP"] = "SIGKILL"
    after_s: float = 0.0


class ProcessOptions(BaseModel):
    """``own`` assigns these partitions directly; without it, the decider joins the consumer group.

    ``check_worker`` is the module of the process that checks schemas.
    """

    model_config = ConfigDict(frozen=True)

    own: tuple[int, ...] | None = None
    partitions: int
    self_signal: SelfSignal | None = None
    topic_by_topic: bool = False
    sabotage: Sabotage | None = None
    check_worker: str = validator.WORKER_MODULE


def _signal_at_step(self_signal: SelfSignal | None) -> Callable[[str], None]:
    left = 0 if self_signal is None else self_signal.count

    def disarm(*_: object) -> None:
        """Who was stopped before its step, and is resumed, does not stop itself later: nobody would resume it."""
        nonlocal left
        left = 0

    signal.signal(signal.SIGCONT, disarm)

    def on_step(step: str) -> None:
        nonlocal left
        if self_signal is not None and step == self_signal.step:
            left -= 1
            if left == 0:
                number = getattr(signal, self_signal.signal)
                if self_signal.after_s:
                    threading.Timer(self_signal.after_s, os.kill, (os.getpid(), number)).start()
                else:
                    os.kill(os.getpid(), number)

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
    """Removes one safeguard that the algorithm needs."""
    product: Any
    match what:
        case None:
            pass
        case "no-fence":
            product = partition_owner
            product.transactional_id = lambda partition: f"unfenced-{partition}-{uuid4()}"
        case "no-abort-after-fence":

            async def do_nothing(self: PartitionOwner, producer: TransactionalProducer) -> None:
                pass

            product = PartitionOwner
            product._abort_leftovers = do_nothing
        case "unawaited-send":
            product = TransactionalProducer
            product.append = _append_and_forget
        case "kept-state":
            states: dict[int, PartitionState] = {}
            restored = restore.restore

            async def restore_once(servers: str, security: dict[str, Any], partition: int) -> PartitionState:
                if partition not in states:
                    states[partition] = await restored(servers, security, partition)
                return states[partition]

            product = partition_owner
            product.restore = restore_once
        case "repeated-endtxn":
            product = transactions
            product.send_end_of_transaction_once = lambda producer: None  # noqa: ARG005
        case "forgotten-ids":
            product = restore
            product._remember_outcomes = lambda state, record: None  # noqa: ARG005
            idempotency_window.IdempotencyWindow.restore_chunks = lambda self, records: None  # type: ignore[method-assign]  # noqa: ARG005


async def _own(settings: Settings, options: ProcessOptions, on_step: Callable[[str], None]) -> None:
    kafka = KafkaConfig(settings.kafka_bootstrap_servers or "", security_options())
    keyring, allowlist = KeyRing.parse(settings.keyring), Allowlist.parse(())
    owners = [
        PartitionOwner(kafka, DeciderConfig(partition, options.partitions, keyring, allowlist), on_step)
        for partition in options.own or ()
    ]
    await asyncio.gather(*(one.serving.wait() for one in owners))
    print(READY, flush=True)
    await asyncio.Event().wait()


def _shrink_window() -> None:
    """So small that a round stores chunks, and reads the outcomes of repeated ids again."""
    idempotency_window.CHUNK_SIZE = 16
    idempotency_window.CHUNK_SPAN = 64
    idempotency_window.CACHE_BYTES = 2_000


async def _run(options: ProcessOptions) -> None:
    _shrink_window()
    settings = Settings.from_environment()
    on_step = _signal_at_step(options.self_signal)
    if options.own is not None:
        await _own(settings, options, on_step)
    else:
        await service.run(settings, ready=lambda: print(READY, flush=True), on_step=on_step)


def main() -> None:
    set_up_logging()
    options = ProcessOptions.model_validate_json(sys.argv[1])
    _sabotage(options.sabotage)
    validator.SchemaValidator.__init__.__defaults__ = (options.check_worker,)
    if options.topic_by_topic:
        product: Any = TransactionalProducer
        product.append = _append_topic_by_topic

    def end_with_parent() -> None:
        while os.read(0, 1024):
            pass
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()

    async def until_terminated() -> None:
        task = asyncio.create_task(_run(options))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    asyncio.run(until_terminated())


if __name__ == "__main__":
    main()
