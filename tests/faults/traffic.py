"""What publishers do during a round: commands of every kind, good and bad, sent until each is answered."""

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
from contracts.partitioner import partition_of
from contracts.publisher import OutcomeTimeout, Publisher, PublisherBroken
from contracts.sealing import SealKey
from tests.faults.checker import Answer

ACCOUNT = "acme"
SYSTEMS = ("crm", "erp")
CODES = ("ORDER", "REFUND")
GIVE_UP_S = 150.0
_SEAL_TO = SealKey(b"f" * 32).seal_to


@dataclass(frozen=True, slots=True)
class Command:
    """``attributes`` are the envelope's optional ones."""

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
            "source": "nemesis",
            "subject": self.channel,
            "accountid": ACCOUNT,
            "data": self.data,
        }
        return json.dumps(envelope | self.attributes).encode()

    def options(self) -> dict[str, Any]:
        """The same for a publisher's `send_raw`."""
        return {
            "channel": self.channel,
            "command_id": self.command_id,
            "expected_version": self.attributes.get("expectedversion"),
            "dry_run": self.attributes.get("dryrun", False),
        }


def _data(kind: str, dice: random.Random) -> dict[str, Any]:
    """Plausible data; what the channel's state makes of it is the decider's business."""
    system, code = dice.choice(SYSTEMS), dice.choice(CODES)
    url = f"https://{dice.choice(('a', 'b'))}.example/hook"
    match kind:
        case "ToggleSms":
            return {"enabled": dice.random() < 0.5}
        case "EditChannel":
            return {"name": f"Shop {dice.randrange(5)}"}
        case "SaveOtpScheduling":
            countries = dice.sample(["ID", "IN", "EG", "MY"], dice.randrange(1, 4))
            return {"enabled": dice.random() < 0.7, "countries": countries, "use_own_numbers": False}
        case "OpenBusinessSystem":
            return {"system": system, "name": system.upper(), "api_request_url": url}
        case "EditBusinessSystem":
            return {"system": system, "remarks": f"note {dice.randrange(9)}"}
        case "RefreshSignature":
            return {"system": system, "force": True, "api_request_url": url, "seal_to": _SEAL_TO}
        case "RevealSignature":
            return {"system": system, "seal_to": _SEAL_TO}
        case "AddIntent":
            return {"system": system, "code": code, "name": "Order", "default_data": {"n": dice.randrange(9)}}
        case "EditIntent":
            return {"system": system, "code": code, "default_data": {"n": dice.randrange(9)}}
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


def commands(prefix: str, dice: random.Random, channels: int, each: int) -> dict[str, list[Command]]:
    """By channel, a registration and then commands: some expect a version, run dry, repeat an id, or break a rule."""
    planned = {}
    for number in range(channels):
        channel = f"{prefix}-{number}"
        registration = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
        plan = [Command(channel, f"{channel}:0", "RegisterChannel", registration)]
        for step in range(1, each):
            kind = dice.choice(_KINDS)
            attributes: dict[str, Any] = {}
            if dice.random() < 0.2:
                attributes["expectedversion"] = dice.randrange(1, step + 1)
            if dice.random() < 0.1:
                attributes["dryrun"] = True
            command = Command(channel, f"{channel}:{step}", kind, _data(kind, dice), attributes)
            chance = dice.random()
            if chance < 0.1:
                command = dice.choice(plan)  # once more, word for word
            elif chance < 0.13:
                command = Command(channel, dice.choice(plan).command_id, "ToggleSms", {"enabled": True})
            elif chance < 0.16:
                command = Command(channel, command.command_id, kind, {"nonsense": step})
            plan.append(command)
        planned[channel] = plan
    return planned


def _noise(command: Command) -> list[bytes]:
    """Records that are no commands, and commands that break the contract."""
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
    """Runs until every command is answered; ``answers`` is what publishers were told, ``published`` the values that
    the broker said to have.

    Half of a channel's commands are waited for one by one, the others are thrown in without waiting, so that there is a
    queue. Between them come records that are no commands, and commands on wrong partitions.
    """

    def __init__(self, bootstrap_servers: str, partitions: int, prefix: str, dice: random.Random, size: int) -> None:
        self._bootstrap_servers, self._partitions, self._dice = bootstrap_servers, partitions, dice
        self._planned = commands(prefix, dice, channels=4, each=size)
        self.answers: list[Answer] = []
        self.published: list[bytes] = []

    async def run(self) -> None:
        async with asyncio.timeout(GIVE_UP_S):
            channels = list(self._planned.values())
            await asyncio.gather(self.wait_for_each(channels[:2]), self.wait_for_each(channels[2:3]), self._throw_in())
            await self.wait_for_each(channels[3:])

    async def wait_for_each(self, channels: list[list[Command]]) -> None:
        """Sends their commands in turns, each until it is answered."""
        plan = [command for step in zip(*channels, strict=True) for command in step]
        while plan:
            try:
                async with Publisher(self._bootstrap_servers, source="nemesis", account=ACCOUNT) as publisher:
                    while plan:
                        await self._ask(publisher, plan[0])
                        plan.pop(0)
            except (OutcomeTimeout, PublisherBroken):
                await asyncio.sleep(0.3)

    async def _ask(self, publisher: Publisher, command: Command) -> None:
        outcome = await publisher.send_raw(command.kind, command.data, timeout=15, **command.options())
        data = outcome.body.model_dump(mode="json", exclude_unset=True)
        self.answers.append(Answer(command.channel, command.command_id, data))

    async def _throw_in(self) -> None:
        waiting = list(self._thrown_in())
        while waiting:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap_servers, enable_idempotence=True, request_timeout_ms=8_000
            )
            try:
                await producer.start()
                while waiting:
                    partition, key, value = waiting[0]
                    await asyncio.wait_for(
                        await producer.send(topics.COMMANDS.name, value, key=key, partition=partition), 10
                    )
                    waiting.pop(0)
                    self.published.append(value)
                    if self._dice.random() < 0.1:
                        await asyncio.sleep(0.02)
            except (KafkaError, OSError, TimeoutError):
                await asyncio.sleep(0.3)
            finally:
                await _let_go(producer)

    def _thrown_in(self) -> Iterator[tuple[int, bytes, bytes]]:
        *_, last = self._planned.values()
        for command in last:
            home = partition_of(command.channel, self._partitions)
            partition = home if self._dice.random() < 0.8 else (home + 1) % self._partitions
            yield partition, command.channel.encode(), command.value()
            if self._dice.random() < 0.15:
                yield self._dice.randrange(self._partitions), b"noise", self._dice.choice(_noise(command))


async def _let_go(producer: Any) -> None:
    """Stops it, however the broker is."""
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        await asyncio.wait_for(producer.stop(), 5)


_PUBLISH = """
import asyncio, json, sys
from contracts.publisher import Publisher

async def main():
    async with Publisher(sys.argv[1], source="nemesis", account=sys.argv[2]) as publisher:
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


async def publish_and_be_killed(bootstrap_servers: str, prefix: str, dice: random.Random) -> list[Command]:
    """A publisher of its own, many commands in flight, killed half-way; returns them, for somebody to send again."""
    (plan,) = commands(prefix, dice, channels=1, each=40).values()
    lines = [json.dumps([one.kind, one.data, one.options()]) + "\n" for one in plan]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PUBLISH, bootstrap_servers, ACCOUNT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("".join(lines).encode())
    await process.stdin.drain()
    for _ in range(dice.randrange(5, 35)):
        await process.stdout.readline()
    process.kill()
    await process.communicate()
    return plan
