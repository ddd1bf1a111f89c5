"""Rounds of growth: partitions are added under load, twice in a row, while growth and deciders are killed."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from contracts import topics
from contracts.channel import RegisterChannel
from contracts.envelope import GENESIS
from contracts.kafka.partition_growth import read_partitions
from contracts.kafka.publisher import OutcomeTimeout, Publisher, PublisherError
from contracts.partitioner import partition_of
from contracts.signature import RefreshSignature
from contracts.sms import ToggleSms
from services.decider.grow_partitions import grow
from services.decider.rebuild_state import rebuild
from tests.faults.decider.log_reader import Log, read_log
from tests.faults.decider.process import ProcessOptions
from tests.faults.decider.testbed import Testbed

STEPS = ("begun", "created", "fenced", "copied", "emptied", "cut", "finished")
NUMBERS = (2, 4, 8)
CHANNELS = tuple(f"ch-{number}" for number in range(12))
_REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
_REFRESH = RefreshSignature(system="crm", api_request_url="https://crm.example/hook")
_REOPENED = 10
"""A publisher is opened anew for one command in so many."""
_REPEATED = 5
"""So often a command's id is sent again, one in so many."""


class Load:
    """Commands to every channel, one after another, each sent until it is answered."""

    def __init__(self, servers: str, rng: random.Random) -> None:
        self._servers, self._rng = servers, rng
        self.sent: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.longest_s = 0.0
        self._publishers: dict[str, Publisher] = {}
        self._ending = False

    async def run(self) -> None:
        try:
            await asyncio.gather(*(self._channel(channel) for channel in CHANNELS))
        finally:
            for channel in CHANNELS:
                await self._close(channel)

    async def progress(self, commands: int) -> None:
        """Returns when every channel has had so many more commands answered."""
        before = Counter(self.sent)
        while any(self.sent[channel] < before[channel] + commands for channel in CHANNELS):
            await asyncio.sleep(0.1)

    def end(self) -> None:
        self._ending = True

    async def _channel(self, channel: str) -> None:
        last: tuple[str, int | None] | None = None
        await self._send(channel, _REGISTER, f"{channel}-register")
        await self._send(channel, _REFRESH, f"{channel}-refresh")
        while not self._ending:
            number = self.sent[channel]
            version, repeated = await self._send(channel, ToggleSms(enabled=number % 2 == 0), f"{channel}-{number}")
            if version != number + 3 and not repeated:
                self.wrong.append(f"{channel}: command {number} had version {version}")
            self.sent[channel] += 1
            if last is None or self._rng.random() < 1 / _REPEATED:
                again = last or (f"{channel}-0", 3)
                if await self._send(channel, ToggleSms(enabled=True), again[0]) != (again[1], True):
                    self.wrong.append(f"{again[0]} was decided a second time")
                last = None if number % 2 else (f"{channel}-{number}", version)

    async def _send(self, channel: str, command: Any, command_id: str) -> tuple[int | None, bool]:
        begun = time.monotonic()
        while True:
            try:
                publisher = await self._publisher(channel)
                outcome = await publisher.send(command, channel=channel, command_id=command_id, timeout=60)
            except (OutcomeTimeout, PublisherError):
                await asyncio.sleep(0.3)
            else:
                self.longest_s = max(self.longest_s, time.monotonic() - begun)
                return outcome.version, outcome.repeated

    async def _publisher(self, channel: str) -> Publisher:
        """Opened anew now and then: some have heard of the growth, some have not."""
        if channel in self._publishers and self._rng.random() < 1 / _REOPENED:
            await self._close(channel)
        if channel not in self._publishers:
            opened = Publisher(self._servers, source="faults", account="acme")
            self._publishers[channel] = await opened.__aenter__()
        return self._publishers[channel]

    async def _close(self, channel: str) -> None:
        if (publisher := self._publishers.pop(channel, None)) is not None:
            await publisher.__aexit__(None, None, None)


async def play(testbed: Testbed, rng: random.Random) -> tuple[str, list[str]]:
    """Grows twice; returns what was done, and the violations."""
    servers, done = testbed.bootstrap_servers, list[str]()
    options = ProcessOptions(own=None, partitions=NUMBERS[0])
    await testbed.start(options).ready()
    load = Load(servers, rng)
    loading = asyncio.create_task(load.run())
    try:
        for to in NUMBERS[1:]:
            await load.progress(rng.randrange(2, 6))
            for _ in range(rng.randrange(1, 3)):
                step, count = rng.choice(STEPS), rng.randrange(1, 3)
                arguments = ("-m", "tests.faults.growth.process", servers, str(to), step, str(count))
                growing = await asyncio.create_subprocess_exec(sys.executable, *arguments)
                if rng.random() < 0.5:
                    await asyncio.sleep(rng.uniform(0, 2))
                    testbed.end_deciders()
                    testbed.start(options)
                await growing.wait()
                done.append(f"{to}: {step} {count}")
                if (await read_partitions(bootstrap_servers=servers)).count(0) == to:
                    break
            else:
                await grow(servers, {}, to)
        await load.progress(rng.randrange(2, 6))
        load.end()
        await loading
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        testbed.end_deciders()
    log = await read_log(servers, NUMBERS[-1])
    violations = [*load.wrong, *_violations(log, load.sent)]
    async for report in _rebuilt(servers):
        violations += [f"4: partition {report.partition}: {one.key} {one.what}" for one in report.differences]
        violations += [f"4: partition {report.partition}: the secret of {one} is lost" for one in report.lost_secrets]
    sent = sum(load.sent.values())
    return f"{', '.join(done)}; {sent} commands, the longest took {load.longest_s:.1f} s", violations


async def _rebuilt(servers: str) -> Any:
    from services.decider.rebuild_state import RebuildRefused

    while True:
        try:
            async for report in rebuild(servers, {}, write=False):
                yield report
        except RebuildRefused as refusal:
            if "is running" not in str(refusal):  # its session has not ended yet
                raise
            await asyncio.sleep(1)
        else:
            return


def _violations(log: Log, sent: Counter[str]) -> list[str]:
    return [*_of_order(log), *_of_outcomes(log, sent), *_of_secrets(log)]


def _of_order(log: Log) -> list[str]:
    """2 and 11: numbers and hashes go on from partition to partition, and nothing goes back."""
    found: list[str] = []
    events: dict[str, list[tuple[int, bytes, int]]] = defaultdict(list)
    for partition in range(log.partitions):
        for number, record in enumerate(log.of(topics.EVENTS, partition), 1):
            event = json.loads(record.value or b"")
            events[event["subject"]].append((event["sequence"], record.value or b"", partition))
            if event["partitionsequence"] != number:
                found.append(f"2: {record.position} has partitionsequence {event['partitionsequence']}")
    for channel in CHANNELS:
        head, history = GENESIS, sorted(events[channel])
        for number, (sequence, value, _) in enumerate(history, 1):
            if (sequence, json.loads(value)["previoushash"]) != (number, head):
                found.append(f"2 or 11: event {number} of {channel} is {sequence}, or does not name the one before")
            head = sha256(value).hexdigest()
        homes = [partition_of(channel, partitions) for partitions in NUMBERS]
        partitions = [partition for _, _, partition in history]
        if partitions != sorted(partitions) or not set(partitions) <= set(homes):
            found.append(f"2: {channel} was on the partitions {sorted(set(partitions))}, not {homes}")
    return found


def _of_outcomes(log: Log, sent: Counter[str]) -> list[str]:
    """1 and 3: each command has one first outcome, and its event."""
    firsts: Counter[str] = Counter()
    for partition in range(log.partitions):
        for record in log.of(topics.OUTCOMES, partition):
            outcome = json.loads(record.value or b"")
            firsts[outcome["causationid"]] += not outcome.get("repeated", False)
    ids = [f"{channel}-{number}" for channel in CHANNELS for number in range(sent[channel])]
    found = [f"1: {one} has {firsts[one]} first outcomes" for one in ids if firsts[one] != 1]
    events = sum(len(log.of(topics.EVENTS, partition)) for partition in range(log.partitions))
    accepted = len(ids) + 2 * len(CHANNELS)
    if events < accepted:
        found.append(f"3: {events} events of {accepted} commands")
    letters = sum(len(log.of(topics.DEAD_LETTERS, partition)) for partition in range(log.partitions))
    return found + ([f"1: {letters} dead letters"] if letters else [])


def _of_secrets(log: Log) -> list[str]:
    """9: a channel's secrets are on its home alone."""
    return [
        f"9: {key.decode()} is on partition {partition}"
        for partition in range(log.partitions)
        for key in log.compacted(topics.SIGNATURES, partition)
        if not key.startswith(b"~") and partition_of(key.decode().partition("/")[0], log.partitions) != partition
    ]


def play_rounds(rounds: int, seed: int, _: Sequence[str], directory: Path) -> int:
    """Plays rounds, each on a broker of its own; returns how many have violations."""
    violated = 0
    for number in range(rounds):
        with Testbed(directory / f"growth-{number}", NUMBERS[0]) as testbed:
            what, found = asyncio.run(play(testbed, random.Random(f"{seed}/{number}")))
        print(f"{number:4} {'holds' if not found else 'VIOLATED'}: {what}", flush=True)
        for one in found[:20]:
            print(f"       {one}", flush=True)
        violated += bool(found)
    return violated
