"""For tests of the audit: logs made up in memory, as the decider writes them, and copies of them to tamper with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from pydantic_core import to_json

from contracts import topics
from contracts.envelope import GENESIS
from contracts.message import CommandData, rfc3339
from contracts.message_types import Command, Event
from contracts.partition_growth import PartitionGrowth
from contracts.partitioner import partition_of
from services.audit.log.copied_log import CopiedLog, CopiedRecord, copied_line
from services.domain.decide import decide
from services.domain.decision import Context, Decision, EventMetadata
from services.domain.evolve import evolve
from services.domain.state import ChannelState
from services.domain.state_codec import BUSINESS_SYSTEM, CHANNEL
from services.domain.url_policy import Allowlist

START = 1_795_000_000_000


@dataclass
class MadeUpLog:
    """Decides commands and keeps what the log would hold: records of events, and the state after each."""

    partitions: int = 2
    now: int = START
    records: list[CopiedRecord] = field(default_factory=list)
    states: dict[str, list[ChannelState]] = field(default_factory=dict)
    times: dict[str, list[int]] = field(default_factory=dict)
    commands: int = 0
    _offsets: dict[int, int] = field(default_factory=dict)
    _sequences: dict[int, int] = field(default_factory=dict)

    def state(self, channel: str) -> ChannelState:
        return self.states.get(channel, [ChannelState()])[-1]

    def send(self, channel: str, command: CommandData, account: str = "acme", actor: str = "ops") -> bool:
        """Whether it was accepted."""
        self.commands += 1
        secret = self.commands.to_bytes(32, "big")
        context = Context(channel, account, self.now, secret, Allowlist.parse(()), actor=actor)
        decision = decide(self.state(channel), cast("Command", command), context)
        if not isinstance(decision, Decision):
            return False
        for event in decision.events:
            self._append(channel, event, account, type(command).__name__, actor)
        return True

    def _append(self, channel: str, event: Event, account: str, command: str, actor: str) -> None:
        partition = partition_of(channel, self.partitions)
        known = self.state(channel).channel
        version, previous = (1, GENESIS) if known is None else (known.version + 1, known.head)
        self._sequences[partition] = sequence = self._sequences.get(partition, 0) + 1
        head: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"event-{partition}-{sequence}",
            "type": type(event).__name__,
            "source": "switchboard",
            "subject": channel,
            "time": rfc3339(self.now),
            "accountid": account,
            "commandsource": "tests",
            "commandtype": command,
            "causationid": f"command-{self.commands}",
            "correlationid": f"command-{self.commands}",
            "datacontenttype": "application/json",
            "actor": actor,
            "sequence": version,
            "partitionsequence": sequence,
            "previoushash": previous,
            "resource": event.resource,
        }
        data = event.model_dump_json(exclude_unset=True, by_alias=True).encode()
        value = to_json(head)[:-1] + b',"data":' + data + b"}"
        mark = EventMetadata(version, self.now, sha256(value).hexdigest())
        self.states.setdefault(channel, [ChannelState()]).append(evolve(self.state(channel), event, account, mark))
        self.times.setdefault(channel, []).append(self.now)
        # A marker after each transaction: offsets have holes, as on a real broker.
        offset = self._offsets.get(partition, 0)
        self._offsets[partition] = offset + 2
        self.records.append(CopiedRecord(topics.EVENTS.name, partition, offset, self.now, channel.encode(), value, ()))

    def grow(self, to: int) -> None:
        """As `switchboard topics grow` does."""
        cuts = tuple(max(0, self._offsets.get(number, 0) - 1) for number in range(self.partitions))
        growth = PartitionGrowth(before=self.partitions, to=to, state="finished", cuts={topics.EVENTS.name: cuts})
        value = growth.model_dump_json().encode()
        offset = sum(record.topic == topics.PARTITION_GROWTH.name for record in self.records)
        name = topics.PARTITION_GROWTH.name
        self.records.append(CopiedRecord(name, 0, offset, self.now, growth.key, value, ()))
        self.partitions = to

    def state_records(self) -> list[CopiedRecord]:
        """What `channel-state` would hold."""
        found: list[CopiedRecord] = []
        for partition in range(self.partitions):
            table: dict[bytes, bytes] = {}
            for channel in self.states:
                if partition_of(channel, self.partitions) != partition:
                    continue
                state = self.state(channel)
                if state.channel is None:
                    continue
                table[channel.encode()] = CHANNEL.encode(state.channel)
                for system in state.channel.systems:
                    record = state.system(system)
                    if record is not None:
                        table[f"{channel}/{system}".encode()] = BUSINESS_SYSTEM.encode(record)
            checkpoint = {"v": 1, "partitionsequence": self._sequences.get(partition, 0)}
            table[b"~checkpoint"] = json.dumps(checkpoint).encode()
            found += [
                CopiedRecord(topics.CHANNEL_STATE.name, partition, offset, self.now, key, value, ())
                for offset, (key, value) in enumerate(table.items())
            ]
        return found


def copy_of(path: Path, records: Iterable[CopiedRecord]) -> CopiedLog:
    """The records as a copy of the log in a file."""
    path.write_text("".join(copied_line(record) + "\n" for record in records))
    return CopiedLog(path)


def rechained(records: list[CopiedRecord], index: int, old: bytes, new: bytes) -> list[CopiedRecord]:
    """As an insider would rewrite it: one event changed, and all that follow on its channel chained anew."""
    changed = list(records)
    channel = records[index].key
    previous: str | None = None
    for at, record in enumerate(changed):
        if at < index or record.key != channel or record.value is None:
            continue
        value = record.value.replace(old, new) if at == index else record.value
        if at == index:
            assert value != record.value
        elif previous is not None:
            was = json.loads(value)["previoushash"]
            value = value.replace(was.encode(), previous.encode())
        previous = sha256(value).hexdigest()
        changed[at] = CopiedRecord(
            record.topic, record.partition, record.offset, record.timestamp, record.key, value, record.headers
        )
    return changed
