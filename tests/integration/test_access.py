"""Every operation, asked by every role in every scope: what the table says happens, and nothing else can be told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import asyncpg
import pytest

from services.gateway.application import application
from services.gateway.authentication import api_keys
from services.gateway.authentication.operations import OPERATIONS, Target
from services.gateway.authentication.roles import ALL_ROLES, PLATFORM, Role, Scope
from services.gateway.log_reads import LogReads
from services.infrastructure.postgres import pool_of
from tests.counting_connection import CountingConnection
from tests.gateways import gateway
from tests.installation import Answer, Api, Installation, fresh

SHOP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
CRM = {"name": "CRM", "api_request_url": "https://crm.example/hook"}
BODIES = {
    "PUT /v1/channels/{channel}": SHOP,
    "PATCH /v1/channels/{channel}": {"name": "Store"},
    "PUT /v1/channels/{channel}/business-systems/{system}": CRM,
    "PATCH /v1/channels/{channel}/business-systems/{system}": {"remarks": "ours"},
    "PUT /v1/channels/{channel}/business-systems/{system}/intents/{code}": {"name": "Order", "default_data": {}},
    "PATCH /v1/channels/{channel}/business-systems/{system}/intents/{code}": {"name": "Order"},
    "PUT /v1/channels/{channel}/sms": {"enabled": True},
    "PUT /v1/channels/{channel}/spend-guard": {"mode": "off"},
    "PUT /v1/channels/{channel}/approvals": {"required_for": []},
    "PUT /v1/rates": {"rates": []},
    "POST /v1/channels/{channel}/message-decisions": {"recipient": "+6281234567890", "category": "authentication"},
    "PUT /v1/channels/{channel}/otp-scheduling": {"enabled": False, "countries": [], "use_own_numbers": False},
}
QUERIES = {"GET /v1/audit/at": {"at": "now"}, "GET /v1/audit/diff": {"from": "1"}}
PROPOSED = {
    Role.SIGNATURE_KEEPER: {"type": "RefreshSignature", "data": {"system": "crm"}},
    Role.ADMINISTRATOR: {"type": "RetireChannel", "data": {}},
}
"""What the role may propose; the others an edit."""
EDIT = {"type": "EditBusinessSystem", "data": {"system": "crm", "remarks": "ours"}}
NAMES = {
    "resource": "r",
    "system": "crm",
    "code": "ORDER",
    "key_id": "k",
    "delivery": "d",
    "key": "none",
    "message": "m",
    "template": "t",
    "change": "c",
}
FILTERS = ("GET /v1/intents", "GET /v1/deliveries")
"""Whose parameter `channel` selects from an account's own, and may select nothing."""
DRY_RUN = {
    f"{method.upper()} {path}"
    for path, methods in application(None).openapi()["paths"].items()  # type: ignore[arg-type]
    for method, operation in methods.items()
    if any(one["name"] == "dry_run" for one in operation.get("parameters", ()))
}


@dataclass(frozen=True, slots=True)
class World:
    """Two channels of an account, of which the first names the provider, and one of another account."""

    account: str
    provider: str
    channel: str
    beside: str
    elsewhere: str

    def scopes(self) -> dict[str, Scope]:
        return {
            "platform": PLATFORM,
            "account": Scope(self.account),
            "channel": Scope(self.account, self.channel),
            "provider": Scope(provider=self.provider),
        }


@pytest.fixture
async def world(installation: Installation) -> World:
    world = World(*(fresh(name) for name in ("acct", "prov", "mine", "beside", "elsewhere")))
    for account, channels in ((world.account, (world.channel, world.beside)), (fresh("other"), (world.elsewhere,))):
        async with installation.api(None, **{"Switchboard-Account": account}) as platform:
            for channel in channels:
                provider = {"provider": world.provider} if channel == world.channel else {}
                assert (await platform("PUT", f"channels/{channel}", SHOP | provider)).status == 201
                assert (await platform("PUT", f"channels/{channel}/business-systems/crm", CRM)).status == 201
                assert (await platform("GET", f"channels/{channel}?min_version=3")).status == 200
    return world


class Caller:
    """Makes requests with one key, by the name of their operation."""

    def __init__(self, session: aiohttp.ClientSession, token: str, account: str | None, role: Role | None) -> None:
        self._session = session
        self._proposal = {"change": "c", "command": EDIT if role is None else PROPOSED.get(role, EDIT)}
        self._headers = {"Authorization": f"Bearer {token}"}
        self._headers |= {} if account is None else {"Switchboard-Account": account}

    async def __call__(self, operation: str, channel: str) -> Answer:
        method, path = operation.split(" ")
        query = dict(QUERIES.get(operation, {})) | ({"dry_run": "true"} if operation in DRY_RUN else {})
        if OPERATIONS[operation].target is Target.CHANNELS:
            query["channel"] = channel
        body = BODIES.get(operation, {} if method in ("POST", "PUT", "PATCH") else None)
        if operation == "POST /v1/channels/{channel}/proposed-changes":
            body = self._proposal
        path = path.format(channel=channel, **NAMES).removeprefix("/v1/")
        return await Api(self._session)(method, path, body, params=query, headers=self._headers)


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


def problem(answer: Answer) -> str | None:
    return str(answer.body["type"]).rpartition(":")[2] if answer.status >= 400 else None


def expected(operation: str, kind: str, role: Role, *, in_scope: bool) -> str | None:
    """The name of the refusal, or None."""
    row = OPERATIONS[operation]
    narrow = kind in ("channel", "provider")
    if role not in row.roles or (row.target is Target.PLATFORM and kind != "platform"):
        return "Forbidden"
    if row.target is Target.ACCOUNT and narrow:
        return "Forbidden"
    if in_scope or row.target not in (Target.CHANNEL, Target.CHANNELS):
        return None
    return None if operation in FILTERS and not narrow else "ChannelUnknown"


@pytest.mark.timeout(600)
async def test_every_operation_by_every_role_in_every_scope(installation: Installation, world: World) -> None:
    reached = {
        "platform": {world.channel, world.beside},
        "account": {world.channel, world.beside},
        "channel": {world.channel},
        "provider": {world.channel},
    }
    wrong: list[str] = []
    turns = asyncio.Semaphore(6)

    async def ask(caller: Caller, operation: str, kind: str, role: Role, channel: str) -> None:
        async with turns:
            answer = await caller(operation, channel)
        refusal = problem(answer) if problem(answer) in ("Forbidden", "ChannelUnknown", "Unauthenticated") else None
        wanted = expected(operation, kind, role, in_scope=channel in reached[kind])
        if refusal != wanted or (answer.status >= 500 and problem(answer) != "AuditsBusy"):
            wrong.append(f"{operation} by {role} of {kind} on {channel}: {answer.status} {refusal}, not {wanted}")

    async with callers(installation, world) as made:
        await asyncio.gather(
            *(
                ask(made[kind, role], operation, kind, role, channel)
                for operation in OPERATIONS
                for kind in world.scopes()
                for role in Role
                for channel in (world.channel, world.beside, world.elsewhere)
            )
        )
    assert wrong == []


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
