"""Who may do what, asked over HTTP: the requests of every operation, the callers, and what each is to be answered."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

from services.gateway.application import application
from services.gateway.authentication.operations import OPERATIONS, Target
from services.gateway.authentication.roles import PLATFORM, Role, Scope
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
    "listener": "l",
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

    @property
    def channels(self) -> tuple[str, str, str]:
        return self.channel, self.beside, self.elsewhere

    def reached(self, kind: str) -> set[str]:
        return {self.channel} if kind in ("channel", "provider") else {self.channel, self.beside}


async def create_world(installation: Installation) -> World:
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


async def wrong_answer(caller: Caller, operation: str, kind: str, role: Role, channel: str, world: World) -> str | None:
    """Has the caller, of that kind of scope and role, ask; says what is wrong with the answer, if anything."""
    answer = await caller(operation, channel)
    refusal = problem(answer) if problem(answer) in ("Forbidden", "ChannelUnknown", "Unauthenticated") else None
    wanted = expected(operation, kind, role, in_scope=channel in world.reached(kind))
    if refusal == wanted and (answer.status < 500 or problem(answer) == "AuditsBusy"):
        return None
    return f"{operation} by {role} of {kind} on {channel}: {answer.status} {refusal}, not {wanted}"
