"""Every operation, asked by every role in every scope: what the table says happens, and nothing else can be told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import asyncpg
import pytest

from services.gateway.authentication import api_keys
from services.gateway.authentication.operations import OPERATIONS, Target
from services.gateway.authentication.roles import ALL_ROLES, Role
from services.gateway.log_reads import LogReads
from services.infrastructure.postgres import pool_of
from tests.access_matrix import Caller, World, create_world, wrong_answer
from tests.counting_connection import CountingConnection
from tests.gateways import gateway
from tests.installation import Installation, fresh


@pytest.fixture
async def world(installation: Installation) -> World:
    return await create_world(installation)


@asynccontextmanager
async def callers(installation: Installation, world: World) -> AsyncIterator[dict[tuple[str, Role | None], Caller]]:
    """A caller for each kind of scope and each role; None has all roles."""
    pool = await pool_of(installation.settings, size=1)
    try:
        tokens = {
            (kind, role): await api_keys.create(
                pool, label="matrix", scope=scope, roles=ALL_ROLES if role is None else frozenset({role})
            )
            for kind, scope in world.scopes().items()
            for role in (*Role, None)
        }
    finally:
        await pool.close()
    async with aiohttp.ClientSession(f"{installation.address}/v1/") as session:
        yield {
            (kind, role): Caller(session, token, world.account if kind == "platform" else None, role)
            for (kind, role), token in tokens.items()
        }


@pytest.mark.timeout(600)
async def test_every_operation_by_every_role_in_every_scope(installation: Installation, world: World) -> None:
    wrong: list[str | None] = []
    turns = asyncio.Semaphore(6)

    async def ask(caller: Caller, operation: str, kind: str, role: Role, channel: str) -> None:
        async with turns:
            wrong.append(await wrong_answer(caller, operation, kind, role, channel, world))

    async with callers(installation, world) as made:
        await asyncio.gather(
            *(
                ask(made[kind, role], operation, kind, role, channel)
                for operation in OPERATIONS
                for kind in world.scopes()
                for role in Role
                for channel in world.channels
            )
        )
    assert [one for one in wrong if one is not None] == []


@pytest.fixture
def log_reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the reads of the event log."""
    count: Counter[str] = Counter()
    run = LogReads.run

    async def counted(self: LogReads, *args: Any, **options: Any) -> Any:
        count.update(log_reads=1)
        return await run(self, *args, **options)

    monkeypatch.setattr(LogReads, "run", counted)
    return count


async def test_what_is_forbidden_looks_like_what_is_unknown(
    installation: Installation, world: World, log_reads: Counter[str]
) -> None:
    """And costs the same: not in time, which a machine's load decides, but in all that is read for the answer."""
    of_channels = {name for name, row in OPERATIONS.items() if row.target in (Target.CHANNEL, Target.CHANNELS)}
    registering = "PUT /v1/channels/{channel}"  # the platform's alone, whether or not the channel is there
    assert {name for name in OPERATIONS if "{channel}" in name} <= of_channels | {registering}
    pool = await asyncpg.create_pool(
        installation.settings.database_url, min_size=1, max_size=4, connection_class=CountingConnection
    )
    unknown = fresh("nowhere")[: len(world.elsewhere)].ljust(len(world.elsewhere), "x")

    async def look(caller: Caller, operation: str, channel: str) -> tuple[object, ...]:
        CountingConnection.read.clear()
        log_reads.clear()
        answer = await caller(operation, channel)
        body = {name: value for name, value in answer.body.items() if name not in ("command_id", "cursor", "read_to")}
        shown = str(body).replace(channel, "…")
        names = sorted(name for name in answer.headers if name.lower() not in ("date", "ratelimit"))
        return answer.status, shown, names, dict(CountingConnection.read), dict(log_reads)

    async with gateway(installation, world.account, pool=pool) as (api, _), callers(installation, world) as made:
        session = api.session
        for kind in ("account", "channel", "provider"):
            caller = made[kind, None]
            caller._session = session
            await caller("GET /v1/channels/{channel}", world.channel)  # the first use in an hour is noted
            for operation, row in OPERATIONS.items():
                if row.target in (Target.CHANNEL, Target.CHANNELS):
                    for _ in range(3):  # a connection that the pool opens meanwhile has queries of its own
                        of_others = await look(caller, operation, world.elsewhere)
                        of_nobody = await look(caller, operation, unknown)
                        if of_others == of_nobody:
                            break
                    assert of_others == of_nobody, (kind, operation)


async def test_every_act_is_named(installation: Installation, world: World) -> None:
    """The actor, its name, the address, the agent and the request go with a command into the audit."""
    headers = {"User-Agent": "shop/1.0", "X-Request-Id": "request-1"}
    async with installation.api(world.account, **headers) as api:
        accepted = await api("PUT", f"channels/{world.channel}/sms", {"enabled": True})
        rejected = await api("DELETE", f"channels/{world.channel}/business-systems/none")
        assert (accepted.status, rejected.status) == (200, 404)
        assert accepted.headers["X-Request-Id"] == "request-1"
        entries = (await api("GET", f"audit/log?channel={world.channel}")).body["entries"]
        other = await api("GET", "channels", headers={"X-Request-Id": "not an id"})
        assert other.headers["X-Request-Id"] not in ("", "not an id")
    assert [(entry["type"], entry["actor"][:8], entry["origin"]) for entry in entries[-2:]] == [
        (
            kind,
            "api-key:",
            {"actorname": "test", "sourceaddress": "127.0.0.1", "useragent": "shop/1.0", "requestid": "request-1"},
        )
        for kind in ("SmsActivated", "CommandRejected")
    ]
