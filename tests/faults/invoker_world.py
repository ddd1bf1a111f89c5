"""What the invoker's fault rounds happen in: a broker, a database, a decider, receivers, and invokers that die."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from aiohttp import web

from contracts import topics
from contracts.business_system import DisableBusinessSystem, OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.intent import AddIntent
from contracts.invocation import InvokeIntent
from contracts.outcome import CommandAccepted
from contracts.publisher import Publisher
from contracts.sealing import SealKey
from contracts.signature import RevealSignature
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from services.infrastructure.postgres import migrate, pool_of
from services.invoker.service import MIGRATIONS
from tests.faults.invoker_process import READY, STRUCK, Order
from tests.installation import Installation, fresh
from tests.receivers import Call, Receiver, verify

ACCOUNT = "acme"
CODE = "ORDER"
SYSTEMS = ("steady", "flaky", "broken", "off", "slow")
ENDS = {"steady": "delivered", "flaky": "delivered", "broken": "dead", "off": "parked", "slow": "delivered"}
"""How a request to each system must end: exactly so, whatever dies meanwhile."""


class Invoker:
    """An invoker process; ``struck`` is set once it sent itself the signal of its order."""

    def __init__(self, environment: dict[str, str], log: Path, order: Order) -> None:
        self.ready, self.struck = asyncio.Event(), asyncio.Event()
        with log.open("a") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.invoker_process", order.model_dump_json()],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                start_new_session=True,
            )
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await asyncio.to_thread(self.process.stdout.readline):
            {READY: self.ready, STRUCK: self.struck}.get(line.decode().strip(), asyncio.Event()).set()

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """Ends it, whatever state it is in."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        try:
            await asyncio.to_thread(self.process.wait, 12)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        await self._reading
        self.process.stdout.close()


@dataclass(slots=True)
class World:
    """Everything running but the invoker."""

    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres
    installation: Installation
    receiver: Receiver
    publisher: Publisher
    channel: str
    secrets: dict[str, str] = field(default_factory=dict)
    accepted: Counter[str] = field(default_factory=Counter)
    """How often each webhook-id was answered with a success."""

    def invoker(self, order: Order | None = None) -> Invoker:
        log = self.installation.directory / "invoker.log"
        return Invoker(self.installation.environment, log, order or Order())

    async def ask(self, request_id: str, system: str) -> None:
        await self.publisher.publish(
            InvokeIntent(system=system, code=CODE),
            channel=self.channel,
            topic=topics.INVOCATION_REQUESTS.name,
            command_id=request_id,
        )

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        """Asks the database, as soon as it is there."""
        while True:
            try:
                connection = await asyncpg.connect(self.postgres.dsn, timeout=5)
                try:
                    return list(await connection.fetch(query, *arguments))
                finally:
                    await connection.close()
            except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.InterfaceError):
                await asyncio.sleep(0.2)

    async def _answer(self, call: Call) -> web.StreamResponse:
        verify(call, self.secrets[call.path])
        tries = sum(one.webhook_id == call.webhook_id for one in self.receiver.calls[call.path])
        if call.path == "broken" or (call.path == "flaky" and tries < 3):
            return web.Response(status=500)
        if call.path == "slow":
            await asyncio.sleep(0.3)
        self.accepted[call.webhook_id] += 1
        return web.json_response({"tries": tries})


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    """A world with one channel that has a business system of each kind."""
    kafka, postgres = EmbeddedKafka(directory / "kafka"), EmbeddedPostgres(directory / "postgres")
    try:
        await asyncio.gather(asyncio.to_thread(kafka.start), asyncio.to_thread(postgres.start))
        installation = Installation(
            kafka.bootstrap_servers, postgres.dsn, directory / "services", services=["decider"], receivers=1
        )
        await asyncio.to_thread(installation.__enter__)
        try:
            async with (
                Receiver(installation.receiver_port()) as receiver,
                installation.publisher(ACCOUNT) as publisher,
            ):
                made = World(kafka, postgres, installation, receiver, publisher, fresh("faults"))
                await _set_up(made)
                yield made
        finally:
            await asyncio.to_thread(installation.__exit__, None, None, None)
    finally:
        await asyncio.gather(asyncio.to_thread(kafka.stop), asyncio.to_thread(postgres.stop))


async def _set_up(made: World) -> None:
    pool = await pool_of(made.installation.settings, size=1)
    await migrate(pool, "invoker", MIGRATIONS)
    await pool.close()
    registered = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
    await _accepted(made, registered)
    key = SealKey()
    for system in SYSTEMS:
        url = made.receiver.on(system, made._answer)
        await _accepted(made, OpenBusinessSystem(system=system, name=system, api_request_url=url))
        await _accepted(made, AddIntent(system=system, code=CODE, name="Order", default_data={"order": "1"}))
        revealed = await _accepted(made, RevealSignature(system=system, seal_to=key.seal_to))
        assert revealed.sealed is not None
        made.secrets[system] = key.open(revealed.sealed)
    await _accepted(made, DisableBusinessSystem(system="off"))


async def _accepted(made: World, command: Any) -> CommandAccepted:
    outcome = await made.publisher.send(command, channel=made.channel)
    assert isinstance(outcome.body, CommandAccepted), outcome.body
    return outcome.body
