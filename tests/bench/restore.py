"""`restore`: records a second of restoring a partition, beside a bare consumer; and what a million channels cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic_core import to_json

from contracts import topics
from contracts.partitioner import partition_of
from services.decider.restore import restore
from services.domain.state import BusinessSystem, Channel, Signature
from services.domain.state_codec import BUSINESS_SYSTEM, CHANNEL
from services.domain.state_topic import CHECKPOINT_KEY, Checkpoint, channel_key, system_key
from services.infrastructure.vault import KeyRing, SignatureAddress
from tests.bench.load_driver import ACCOUNT, SYSTEM, LoadDriver, changes, channel_name, load_driver
from tests.bench.report import Result, ratio_of, rounded_median
from tests.bench.testbed import Contestant, Testbed
from tests.bench.topic_pairs import OUR_TOPICS

_MILLION = 1_000_000
_GOAL_GB = 1.5


async def run(testbed: Testbed) -> list[Result]:
    channels = testbed.scaled(_MILLION, least=2_000)
    few = min(1_000, channels // 2)
    with testbed.service("decider") as decider:
        empty = decider.resident_bytes()
    testbed.log(f"writing the state of {channels:,} channels, each with one business system and its signature")
    await _write_state(testbed, channels)
    ours, bare = await _restoring(testbed)
    with testbed.service("decider") as decider:
        resident = decider.resident_bytes()
        async with load_driver(testbed.bootstrap_servers, testbed.partitions) as driver:
            rates = await _rates(testbed, driver, decider, channels, few)
            after = decider.resident_bytes()
            history = await _long_history(testbed, driver, decider)
    per_million = (empty + (resident - empty) / channels * _MILLION) / 1e9
    return [
        Result(
            "restore",
            "records/s",
            ours=rounded_median(ours),
            limit=rounded_median(bare),
            limit_is="bare aiokafka consumer of the same topics",
            ratio=ratio_of(ours, bare),
            details={
                "channels": f"{channels:,}, each with one business system"
                + ("" if channels == _MILLION else f"; scaled down from {_MILLION:,}"),
                "resident MB with no channel": round(empty / 1e6),
                "resident MB when restored": round(resident / 1e6),
                "resident MB after the commands": round(after / 1e6),
                "resident GB a million channels": round(per_million, 2),
                "goal GB": _GOAL_GB,
                **rates,
                **history,
            },
        )
    ]


def _records(channels: int, keyring: KeyRing) -> Iterator[tuple[str, int, bytes, bytes]]:
    """(topic, partition, key, value) of every channel's state, as registering it and opening a system leaves it."""
    now = time.time_ns() // 1_000_000
    # Nobody opens these secrets, and encrypting a million takes longer than all else here: they share one.
    secret = keyring.encrypt(bytes(32), SignatureAddress(ACCOUNT, SYSTEM, "s-1"))
    for number in range(channels):
        name = channel_name(number)
        partition = partition_of(name, 8)
        channel = Channel(
            account=ACCOUNT,
            channel_type="whatsapp",
            name=f"Shop {number}",
            version=3,
            head=f"{number:064x}",
            time=now,
            channel_changed=1,
            systems={SYSTEM: "CRM"},
            signatures_issued=1,
        )
        signature = Signature("s-1", f"{number:016x}", now)
        system = BusinessSystem(
            name="CRM",
            api_request_url="https://crm.example/hook",
            remarks="opened",
            signature_style="standard-webhooks",
            changed=2,
            signature_changed=3,
            signatures=(signature,),
        )
        state = topics.CHANNEL_STATE.name
        yield state, partition, channel_key(name), CHANNEL.encode(channel)
        yield state, partition, system_key(name, SYSTEM), BUSINESS_SYSTEM.encode(system)
        address = SignatureAddress(name, SYSTEM, signature.key_id)
        yield topics.SIGNATURES.name, partition, address.record_key(), secret


async def _write_state(testbed: Testbed, channels: int) -> None:
    """Writes records straight to the decider's topics, in transactions, as its own past would have."""
    producer = AIOKafkaProducer(
        bootstrap_servers=testbed.bootstrap_servers,
        transactional_id=f"bench-{uuid4()}",
        transaction_timeout_ms=600_000,
        max_batch_size=900_000,
    )
    await producer.start()
    batches: dict[tuple[str, int], Any] = {}
    try:
        await producer.begin_transaction()
        for topic, partition, key, value in _records(channels, KeyRing.parse(testbed.keyring)):
            home = topic, partition
            batch = batches.setdefault(home, producer.create_batch())
            if batch.append(key=key, value=value, timestamp=None) is None:
                await (await producer.send_batch(batch, topic, partition=partition))
                batches[home] = producer.create_batch()
                batches[home].append(key=key, value=value, timestamp=None)
        checkpoint = to_json(Checkpoint(partitionsequence=3 * channels))
        for partition in range(testbed.partitions):
            home = topics.CHANNEL_STATE.name, partition
            batch = batches.setdefault(home, producer.create_batch())
            batch.append(key=CHECKPOINT_KEY, value=checkpoint, timestamp=None)
        for (topic, partition), batch in batches.items():
            await (await producer.send_batch(batch, topic, partition=partition))
        await producer.commit_transaction()
    finally:
        await producer.stop()


async def _restoring(testbed: Testbed) -> tuple[list[float], list[float]]:
    """Records a second of partition after partition, restored and merely consumed."""
    ours, bare = [], []
    for turn in range(testbed.rounds):
        partition = turn % testbed.partitions
        started = time.perf_counter()
        state = await restore(testbed.bootstrap_servers, {}, partition)
        count = len(state.records) + len(state.signatures)
        ours.append(count / (time.perf_counter() - started))
        del state
        started = time.perf_counter()
        bare.append(await _consume(testbed.bootstrap_servers, partition) / (time.perf_counter() - started))
        testbed.log(f"{count:,} records: ours {ours[-1]:,.0f}/s, bare {bare[-1]:,.0f}/s")
    return ours, bare


async def _consume(bootstrap_servers: str, partition: int) -> int:
    """How many committed records the two topics have on the partition; each is looked at and let go."""
    count = 0
    for topic in (topics.CHANNEL_STATE.name, topics.SIGNATURES.name):
        source = TopicPartition(topic, partition)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=16 * 1024 * 1024,
        )
        await consumer.start()
        try:
            consumer.assign([source])
            end = (await consumer.end_offsets([source]))[source]
            await consumer.seek_to_beginning(source)
            while await consumer.position(source) < end:
                for record in (await consumer.getmany(source, timeout_ms=1_000)).get(source, ()):
                    count += record.key is not None
        finally:
            await consumer.stop()
    return count


async def _rates(testbed: Testbed, driver: LoadDriver, decider: Contestant, channels: int, few: int) -> dict[str, Any]:
    """Commands a second with the commands spread over few channels, and over all of them."""
    waiting = min(10_000, channels)
    step = channels // waiting
    numbers = {"few": [number % few for number in range(waiting)], "all": list(range(0, channels, step))[:waiting]}
    runs: dict[str, list[_Run]] = {name: [] for name in numbers}
    for turn in range(testbed.rounds + 1):
        # Each channel of the few is changed several times in a row: each of those in another way.
        few_changes = [
            one
            for at in range(0, waiting, few)
            for one in changes(numbers["few"][at : at + few], (turn * waiting + at) // few)
        ]
        all_changes = list(changes([number + turn % step for number in numbers["all"]], turn))
        for name, commands in (("few", few_changes), ("all", all_changes)):
            runs[name].append(await _timed(driver, decider, commands))
        testbed.log(", ".join(f"{name} {found[-1].rate:,.0f}/s" for name, found in runs.items()))
    few_runs, all_runs = runs["few"][1:], runs["all"][1:]
    return {
        f"over {few:,} channels": _shown(few_runs),
        f"over {channels:,} channels, most of them touched for the first time": _shown(all_runs),
        "ratio of all to few": _ratios(all_runs, few_runs),
    }


async def _long_history(testbed: Testbed, driver: LoadDriver, decider: Contestant) -> dict[str, Any]:
    """Commands a second on one channel after its first 10 thousand events, and after 100 thousand."""
    block = testbed.scaled(10_000, least=200)
    runs = []
    for turn in range(10):
        commands = [one for at in range(block) for one in changes([2], turn * block + at)]
        runs.append(await _timed(driver, decider, commands))
    early, late = runs[1:4], runs[7:10]
    return {
        f"on one channel with {block:,} to {4 * block:,} events": _shown(early),
        f"on one channel with {7 * block:,} to {10 * block:,} events": _shown(late),
        "ratio of late to early": _ratios(late, early),
    }


class _Run(NamedTuple):
    """Commands a second, and microseconds of the decider's processor a command."""

    rate: float
    spent: float


async def _timed(driver: LoadDriver, decider: Contestant, commands: Sequence[tuple[str, bytes]]) -> _Run:
    before = decider.processor_s()
    seconds = await driver.seconds_to_process(OUR_TOPICS, commands)
    return _Run(len(commands) / seconds, (decider.processor_s() - before) / len(commands) * 1e6)


def _shown(runs: Sequence[_Run]) -> str:
    rate, spent = rounded_median(run.rate for run in runs), rounded_median(run.spent for run in runs)
    return f"{rate:,.0f} commands/s, {spent} µs of processor time each"


def _ratios(runs: Sequence[_Run], beside: Sequence[_Run]) -> dict[str, float]:
    """Of the rates, and of what a processor would do a second: the latter is not distorted by a busy machine."""
    return {
        "commands/s": ratio_of((run.rate for run in runs), (run.rate for run in beside)),
        "by processor time": ratio_of((run.spent for run in beside), (run.spent for run in runs)),
    }
