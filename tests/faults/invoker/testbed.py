"""The testbed of the invoker's fault rounds: a broker, a database, a decider, receivers, and invoker processes."""

from __future__ import annotations

import asyncio
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
from contracts.kafka.publisher import Publisher
from contracts.outcome import CommandAccepted
from contracts.sealing import SealKey
from contracts.signature import RevealSignature
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from services.infrastructure.postgres import migrate, pool_of
from services.invoker.service import MIGRATIONS
from tests.faults.invoker.process import ProcessOptions
from tests.faults.service_process import ServiceProcess
from tests.installation import Installation, fresh
from tests.receivers import Call, Receiver, verify

ACCOUNT = "acme"
CODE = "ORDER"
SYSTEMS = ("steady", "flaky", "broken", "off", "slow")
FINAL_STATES = {"steady": "delivered", "flaky": "delivered", "broken": "dead", "off": "parked", "slow": "delivered"}
"""The state in which a request to each system must end, whatever the fault."""


class InvokerProcess(ServiceProcess):
    """An invoker process; ``signalled`` is set before it sends itself its signal."""

    def __init__(self, environment: dict[str, str], log: Path, options: ProcessOptions) -> None:
        super().__init__("tests.faults.invoker.process", environment, log, options.model_dump_json())


@dataclass(slots=True)
class Testbed:
    """Everything but the invoker, running."""

    __test__ = False  # a name that begins with Test is no test class

    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres
    installation: Installation
    receiver: Receiver
    publisher: Publisher
    channel: str
    secrets: dict[str, str] = field(default_factory=dict)
    accepted: Counter[str] = field(default_factory=Counter)
    """How often the receiver accepted each webhook-id."""

    def invoker(self, options: ProcessOptions | None = None) -> InvokerProcess:
        log = self.installation.directory / "invoker.log"
        return InvokerProcess(self.installation.environment, log, options or ProcessOptions())

    async def request(self, request_id: str, system: str) -> None:
        await self.publisher.publish(
            InvokeIntent(system=system, code=CODE),
            channel=self.channel,
            topic=topics.INVOCATION_REQUESTS.name,
            command_id=request_id,
        )

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        """Runs the query as soon as the database is up."""
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
        attempts = sum(one.webhook_id == call.webhook_id for one in self.receiver.calls[call.path])
        if call.path == "broken" or (call.path == "flaky" and attempts < 3):
            return web.Response(status=500)
        if call.path == "slow":
            await asyncio.sleep(0.3)
        self.accepted[call.webhook_id] += 1
        return web.json_response({"attempts": attempts})


@asynccontextmanager
async def open_testbed(directory: Path) -> AsyncIterator[Testbed]:
    """A testbed with one channel that has a business system of each kind."""
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
                testbed = Testbed(kafka, postgres, installation, receiver, publisher, fresh("faults"))
                await _set_up(testbed)
                yield testbed
        finally:
            await asyncio.to_thread(installation.__exit__, None, None, None)
    finally:
        await asyncio.gather(asyncio.to_thread(kafka.stop), asyncio.to_thread(postgres.stop))


async def _set_up(testbed: Testbed) -> None:
    pool = await pool_of(testbed.installation.settings, size=1)
    await migrate(pool, "invoker", MIGRATIONS)
    await pool.close()
    registered = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
    await _accepted(testbed, registered)
    key = SealKey()
    for system in SYSTEMS:
        url = testbed.receiver.on(system, testbed._answer)
        await _accepted(testbed, OpenBusinessSystem(system=system, name=system, api_request_url=url))
        await _accepted(
            testbed, AddIntent(system=system, code=CODE, name="ProcessOptions", default_data={"order": "1"})
        )
        revealed = await _accepted(testbed, RevealSignature(system=system, seal_to=key.seal_to))
        assert revealed.sealed is not None
        testbed.secrets[system] = key.open(revealed.sealed)
    await _accepted(testbed, DisableBusinessSystem(system="off"))


async def _accepted(testbed: Testbed, command: Any) -> CommandAccepted:
    outcome = await testbed.publisher.send(command, channel=testbed.channel)
    assert isinstance(outcome.body, CommandAccepted), outcome.body
    return outcome.body
