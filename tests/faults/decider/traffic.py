"""The traffic of a round: valid and invalid commands of every type, sent until each is answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts import topics
from contracts.kafka.publisher import OutcomeTimeout, Publisher, PublisherError
from contracts.partitioner import partition_of
from contracts.sealing import SealKey
from tests.faults.decider.checker import ReportedOutcome

ACCOUNT = "acme"
STRANGER = "stranger"
STRANGERS_COMMANDS = 20
"""At most so many, after each published command: they must not shorten the window of the others."""
SYSTEMS = ("crm", "erp")
CODES = ("ORDER", "REFUND")
TIMEOUT_S = 150.0
_SEAL_TO = SealKey(b"f" * 32).seal_to


@dataclass(frozen=True, slots=True)
class Command:
    """A planned command; ``attributes`` are the envelope's optional attributes."""

    channel: str
    command_id: str
    kind: str
    data: dict[str, Any]
    attributes: dict[str, Any] = field(default_factory=dict)

    def value(self) -> bytes:
        envelope = {
            "specversion": "1.0",
            "id": self.command_id,
            "type": self.kind,
            "source": "faults",
            "subject": self.channel,
            "accountid": ACCOUNT,
            "data": self.data,
        }
        return json.dumps(envelope | self.attributes).encode()

    def options(self) -> dict[str, Any]:
        """Its options for a publisher's `send_raw`."""
        return {
            "channel": self.channel,
            "command_id": self.command_id,
            "expected_version": self.attributes.get("expectedversion"),
            "dry_run": self.attributes.get("dryrun", False),
        }


def _data(kind: str, rng: random.Random) -> dict[str, Any]:
    """Plausible data; whether it is accepted depends on the channel's state."""
    system, code = rng.choice(SYSTEMS), rng.choice(CODES)
    url = f"https://{rng.choice(('a', 'b'))}.example/hook"
    match kind:
        case "ToggleSms":
            return {"enabled": rng.random() < 0.5}
        case "EditChannel":
            return {"name": f"Shop {rng.randrange(5)}"}
        case "SaveOtpScheduling":
            countries = rng.sample(["ID", "IN", "EG", "MY"], rng.randrange(1, 4))
            return {"enabled": rng.random() < 0.7, "countries": countries, "use_own_numbers": False}
        case "OpenBusinessSystem":
            return {"system": system, "name": system.upper(), "api_request_url": url}
        case "EditBusinessSystem":
            return {"system": system, "remarks": f"note {rng.randrange(9)}"}
        case "RefreshSignature":
            return {"system": system, "force": True, "api_request_url": url, "seal_to": _SEAL_TO}
        case "RevealSignature":
            return {"system": system, "seal_to": _SEAL_TO}
        case "AddIntent":
            return {"system": system, "code": code, "name": "Order", "default_data": {"n": rng.randrange(9)}}
        case "EditIntent":
            return {"system": system, "code": code, "default_data": {"n": rng.randrange(9)}}
        case "DeleteIntent":
            return {"system": system, "code": code}
        case _:
            return {"system": system}


_KINDS = (
    ["ToggleSms"] * 5
    + ["EditChannel", "SaveOtpScheduling", "EditBusinessSystem", "AddIntent", "EditIntent"] * 3
    + ["OpenBusinessSystem", "RefreshSignature", "RevealSignature", "DeleteIntent", "DeleteBusinessSystem"]
    + ["DisableBusinessSystem", "EnableBusinessSystem"]
)


def commands(prefix: str, rng: random.Random, channels: int, each: int) -> dict[str, list[Command]]:
    """Commands by channel, a registration first. Some expect a version, are dry runs, repeat an id, or are invalid."""
    planned = {}
    for number in range(channels):
        channel = f"{prefix}-{number}"
        registration = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
        plan = [Command(channel, f"{channel}:0", "RegisterChannel", registration)]
        for step in range(1, each):
            kind = rng.choice(_KINDS)
            attributes: dict[str, Any] = {}
            if rng.random() < 0.2:
                attributes["expectedversion"] = rng.randrange(1, step + 1)
            if rng.random() < 0.1:
                attributes["dryrun"] = True
            command = Command(channel, f"{channel}:{step}", kind, _data(kind, rng), attributes)
            chance = rng.random()
            if chance < 0.1:
                command = rng.choice(plan)  # an exact repeat
            elif chance < 0.13:
                command = Command(channel, rng.choice(plan).command_id, "ToggleSms", {"enabled": True})
            elif chance < 0.16:
                command = Command(channel, command.command_id, kind, {"nonsense": step})
            plan.append(command)
        planned[channel] = plan
    return planned


def _invalid_values(command: Command) -> list[bytes]:
    """Records that are not commands, and commands that violate the contract."""
    envelope = json.loads(command.value())
    return [
        b"no command",
        b'["no", "command"]',
        b"\xff\x00",
        b"",
        json.dumps(envelope | {"accountid": 7}).encode(),
        json.dumps({name: value for name, value in envelope.items() if name != "source"}).encode(),
        json.dumps(envelope | {"id": f"{command.command_id}:coffee", "type": "MakeCoffee"}).encode(),
        json.dumps(envelope | {"id": f"{command.command_id}:when", "time": "yesterday"}).encode(),
    ]


class Traffic:
    """Runs until every command is answered.

    ``reported`` are the outcomes that publishers returned, ``published`` the values that the broker acknowledged. Half
    of a channel's commands are awaited one by one; the others are published without waiting, so that a queue builds up.
    Between them come records that are not commands, and commands on wrong partitions.
    """

    def __init__(self, bootstrap_servers: str, partitions: int, prefix: str, rng: random.Random, size: int) -> None:
        self._bootstrap_servers, self._partitions, self._rng = bootstrap_servers, partitions, rng
        self._planned = commands(prefix, rng, channels=4, each=size)
        self.reported: list[ReportedOutcome] = []
        self.published: list[bytes] = []

    async def run(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            channels = list(self._planned.values())
            await asyncio.gather(
                self.wait_for_each(channels[:2]), self.wait_for_each(channels[2:3]), self._publish_without_waiting()
            )
            await self.wait_for_each(channels[3:])

    async def wait_for_each(self, channels: list[list[Command]]) -> None:
        """Sends their commands in turns, each until it is answered."""
        plan = [command for step in zip(*channels, strict=True) for command in step]
        while plan:
            try:
                async with Publisher(self._bootstrap_servers, source="faults", account=ACCOUNT) as publisher:
                    while plan:
                        await self._send(publisher, plan[0])
                        plan.pop(0)
            except (OutcomeTimeout, PublisherError):
                await asyncio.sleep(0.3)

    async def _send(self, publisher: Publisher, command: Command) -> None:
        outcome = await publisher.send_raw(command.kind, command.data, timeout=15, **command.options())
        data = outcome.body.model_dump(mode="json", exclude_unset=True)
        self.reported.append(ReportedOutcome(command.channel, command.command_id, data))

    async def _publish_without_waiting(self) -> None:
        remaining = list(self._records())
        while remaining:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap_servers, enable_idempotence=True, request_timeout_ms=8_000
            )
            try:
                await producer.start()
                while remaining:
                    partition, key, value = remaining[0]
                    await asyncio.wait_for(
                        await producer.send(topics.COMMANDS.name, value, key=key, partition=partition), 10
                    )
                    remaining.pop(0)
                    self.published.append(value)
                    if self._rng.random() < 0.1:
                        await asyncio.sleep(0.02)
            except (KafkaError, OSError, TimeoutError):
                await asyncio.sleep(0.3)
            finally:
                await _stop(producer)

    def _records(self) -> Iterator[tuple[int, bytes, bytes]]:
        *_, last = self._planned.values()
        for command in last:
            own_partition = partition_of(command.channel, self._partitions)
            partition = own_partition if self._rng.random() < 0.8 else (own_partition + 1) % self._partitions
            yield partition, command.channel.encode(), command.value()
            for number in range(self._rng.randrange(STRANGERS_COMMANDS)):
                yield own_partition, command.channel.encode(), self._strangers(command, number)
            if self._rng.random() < 0.15:
                yield self._rng.randrange(self._partitions), b"noise", self._rng.choice(_invalid_values(command))

    def _strangers(self, command: Command, number: int) -> bytes:
        """The same id by another account, which has no such channel."""
        envelope = json.loads(command.value()) | {"accountid": STRANGER}
        return json.dumps(envelope if number == 0 else envelope | {"id": f"{command.command_id}:{number}"}).encode()


async def _stop(producer: Any) -> None:
    """Stops the producer, whether or not the broker is up."""
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        await asyncio.wait_for(producer.stop(), 5)


_PUBLISH = """
import asyncio, json, sys
from contracts.kafka.publisher import Publisher

async def main():
    async with Publisher(sys.argv[1], source="faults", account=sys.argv[2]) as publisher:
        sends = []
        for line in sys.stdin:
            kind, data, options = json.loads(line)
            sends.append(asyncio.create_task(publisher.send_raw(kind, data, timeout=600, **options)))
            print("sent", flush=True)
            await asyncio.sleep(0.002)
        await asyncio.gather(*sends)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def publish_and_be_killed(bootstrap_servers: str, prefix: str, rng: random.Random) -> list[Command]:
    """Kills a publisher half-way with many commands in flight; returns its commands, to be sent again."""
    (plan,) = commands(prefix, rng, channels=1, each=40).values()
    lines = [json.dumps([one.kind, one.data, one.options()]) + "\n" for one in plan]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PUBLISH, bootstrap_servers, ACCOUNT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("".join(lines).encode())
    await process.stdin.drain()
    for _ in range(rng.randrange(5, 35)):
        await process.stdout.readline()
    process.kill()
    await process.communicate()
    return plan
