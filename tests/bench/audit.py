"""``python -m tests.bench.audit``: how fast the log is audited, beside a bare consumer of the same log in the same run.

``--scale 1`` is a log of a million events on one partition of an embedded broker; a tenth of them are one channel's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from contracts import topics
from contracts.envelope import GENESIS
from contracts.message import rfc3339
from services.audit.log.copied_log import CopiedRecord
from services.audit.log.kafka_log import KafkaLog
from services.audit.log.recorded_event import fold, parse_event
from services.audit.timeline.diff import diff_report
from services.audit.timeline.settings_at import channel_at, parse_moment
from services.audit.verification.verify import verify
from services.domain.state import ChannelState
from services.domain.state_codec import CHANNEL
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.topics import apply_topics
from tests.audit import START

EVENTS = 1_000_000
CHANNELS = 10_000
BIG = "ch-big"
ROUNDS = 3


def events(count: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of chained events: every tenth is the big channel's, the others go round."""
    heads: dict[str, tuple[int, str]] = {}
    for number in range(count):
        channel = BIG if number % 10 == 0 else f"ch-{number % CHANNELS}"
        version, previous = heads.get(channel, (0, GENESIS))
        version += 1
        kind, data = ("SmsActivated" if version % 2 else "SmsDeactivated"), "{}"
        if version == 1:
            kind = "ChannelRegistered"
            data = '{"channel_type":"whatsapp","name":"Shop","enterprise_authenticated":true}'
        value = (
            f'{{"specversion":"1.0","id":"0199-{number:028d}","type":"{kind}","source":"switchboard",'
            f'"subject":"{channel}","time":"{rfc3339(START + number)}","accountid":"acme","commandsource":"bench",'
            f'"commandtype":"ToggleSms","causationid":"cmd-{number}","correlationid":"cmd-{number}",'
            f'"datacontenttype":"application/json","actor":"bench","sequence":{version},'
            f'"partitionsequence":{number + 1},"previoushash":"{previous}",'
            f'"resource":"{"channel" if version == 1 else "sms"}","data":{data}}}'
        ).encode()
        heads[channel] = (version, sha256(value).hexdigest())
        yield channel.encode(), value


async def fill(broker: str, count: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker, max_batch_size=512 * 1024, linger_ms=20)
    await producer.start()
    batch = producer.create_batch()
    sends = []
    ends: dict[bytes, tuple[bytes, ...]] = {}
    for key, value in events(count):
        ends[key] = (*ends.get(key, ())[:1], value)
        if batch.append(key=key, value=value, timestamp=START) is None:
            sends.append(await producer.send_batch(batch, topics.EVENTS.name, partition=0))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=START)
        if len(sends) > 50:
            await asyncio.gather(*sends)
            sends.clear()
    sends.append(await producer.send_batch(batch, topics.EVENTS.name, partition=0))
    await asyncio.gather(*sends)
    state = [(key, state_record(first_and_last)) for key, first_and_last in ends.items()]
    state.append((b"~checkpoint", b'{"v":1,"partitionsequence":%d}' % count))
    for key, value in state:
        await producer.send(topics.CHANNEL_STATE.name, key=key, value=value, partition=0)
    await producer.stop()


def state_record(events: tuple[bytes, ...]) -> bytes:
    """A channel's record in `channel-state`, from its first and its last event: those between leave nothing behind."""
    state = ChannelState()
    for value in events:
        state = fold(state, parse_event(CopiedRecord(topics.EVENTS.name, 0, 0, START, None, value, ())))
    assert state.channel is not None
    return CHANNEL.encode(state.channel)


async def bare(broker: str) -> int:
    """A consumer that looks at nothing."""
    home = TopicPartition(topics.EVENTS.name, 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    consumer.assign([home])
    await consumer.seek_to_beginning(home)
    end = (await consumer.end_offsets([home]))[home]
    seen = 0
    while await consumer.position(home) < end:
        seen += len((await consumer.getmany(home, timeout_ms=200)).get(home, ()))
    await consumer.stop()
    return seen


async def audit_verify(broker: str) -> int:
    async with KafkaLog(broker, {}) as log:
        report = await verify(log)
    assert report.sound, report.findings
    return report.events


async def audit_at(broker: str, count: int) -> int:
    """Settings at the middle and the end of a channel of 100 thousand events, and the difference between them."""
    async with KafkaLog(broker, {}) as log:
        middle, end = await channel_at(log, BIG, [parse_moment(str(count // 20)), parse_moment("now")], START + count)
    assert diff_report(middle, end)["words"] is not None
    assert end.settings is not None
    assert end.settings.version == -(-count // 10)
    return count


async def measure(broker: str, count: int) -> None:
    process = psutil.Process()
    runs: dict[str, Callable[[], Awaitable[int]]] = {
        "bare consumer": lambda: bare(broker),
        "verify": lambda: audit_verify(broker),
        "at, diff": lambda: audit_at(broker, count),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    spent: dict[str, list[float]] = {name: [] for name in runs}
    grown: dict[str, float] = dict.fromkeys(runs, 0.0)
    gc.set_threshold(50_000, 20, 100)  # as the command line has it
    for _ in range(ROUNDS):
        for name, run in runs.items():
            gc.collect()
            before, peak = process.memory_info().rss, 0
            task = asyncio.ensure_future(run())
            start, cpu = time.perf_counter(), time.process_time()
            while not task.done():
                await asyncio.wait([task], timeout=0.25)
                peak = max(peak, process.memory_info().rss)
            rates[name].append((await task) / (time.perf_counter() - start))
            spent[name].append((time.process_time() - cpu) / count * 1e6)
            grown[name] = max(grown[name], (peak - before) / 2**20)
    limit = statistics.median(rates["bare consumer"])
    for name, found in rates.items():
        rate = statistics.median(found)
        print(
            f"{name:14} {rate:10,.0f} events/s   {rate / limit:5.2f} of a bare consumer   "
            f"{statistics.median(spent[name]):5.1f} µs of processor an event   memory +{grown[name]:.0f} MiB"
        )
    result = {
        name: {
            "rate": statistics.median(found),
            "cpu_us": statistics.median(spent[name]),
            "memory_mib": grown[name],
        }
        for name, found in rates.items()
    }
    print(json.dumps({"events": count, **result}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    count = int(EVENTS * parser.parse_args().scale)
    with tempfile.TemporaryDirectory() as directory, EmbeddedKafka(Path(directory) / "kafka") as kafka:
        asyncio.run(apply_topics(kafka.bootstrap_servers, 1, {}))
        asyncio.run(fill(kafka.bootstrap_servers, count))
        print(f"{count:,} events of {CHANNELS:,} channels and one more", file=sys.stderr)
        asyncio.run(measure(kafka.bootstrap_servers, count))


if __name__ == "__main__":
    main()
