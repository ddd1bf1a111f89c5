"""What every request brings: who it is, for which account, and how the command it makes is to be treated."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic_core import from_json

from contracts.changes import Cursor, Place
from contracts.ids import is_name, new_id
from contracts.message import rfc3339
from contracts.outcome import CommandRejected
from contracts.publisher import Outcome, Publisher
from contracts.sealing import SealKey
from contracts.settings import ChannelSettings
from projections import settings_queries
from projections.places import places_of
from services.gateway.api_keys import Access, access_of
from services.gateway.feed import Feed
from services.gateway.problems import Problem, channel_unknown, problem_of_rejection
from services.infrastructure.postgres import Connection, Pool

LONGEST_BODY = 512 * 1024
LONGEST_WAIT_S = 10.0
_LOOK_EVERY_S = 0.02


@dataclass(frozen=True, slots=True)
class Caller:
    """The credential, the token it came as, and the account that the request is for (None: all, for the platform)."""

    access: Access
    token: str
    account: str | None

    @property
    def actor(self) -> str:
        return f"api-key:{self.access.key_id}"

    def required_account(self) -> str:
        if self.account is None:
            raise Problem(
                400, "AccountMissing", "The platform acts for an account: name it in the header Switchboard-Account."
            )
        return self.account


_BEARER = HTTPBearer(auto_error=False, description="An API key: sb_…")


async def authenticated(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    switchboard_account: Annotated[str | None, Header()] = None,
) -> Caller:
    if "\0" in request.url.path or b"%00" in request.scope["query_string"]:
        raise Problem(400, "ParameterInvalid", "No part of a path or a query may hold a NUL.")
    token = "" if bearer is None else bearer.credentials.strip()
    access = await access_of(pool_of(request), token)
    if access is None:
        raise Problem(401, "Unauthenticated", "Send a valid API key as Authorization: Bearer sb_….")
    if switchboard_account is not None and not is_name(switchboard_account):
        raise Problem(400, "ParameterInvalid", "Switchboard-Account is no account id.")
    if access.account is not None and switchboard_account not in (None, access.account):
        raise Problem(403, "Forbidden", "This API key acts for its own account alone; leave out Switchboard-Account.")
    return Caller(access, token.strip(), access.account or switchboard_account)


Authenticated = Annotated[Caller, Depends(authenticated)]


def pool_of(request: Request) -> Pool:
    pool: Pool = request.app.state.pool
    return pool


def publisher_of(request: Request) -> Publisher:
    publisher: Publisher | None = request.app.state.publisher
    if publisher is None:
        raise Problem(503, "Unavailable", "The broker is not there at the moment; try again shortly.")
    return publisher


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """How a command is to be treated, from headers and query."""

    command_id: str
    idempotent: bool
    expected_version: int | None
    dry_run: bool
    traceparent: str | None


def command_options(
    idempotency_key: Annotated[str | None, Header()] = None,
    if_match: Annotated[str | None, Header()] = None,
    traceparent: Annotated[str | None, Header()] = None,
    dry_run: Annotated[bool, Query()] = False,  # noqa: FBT002 -- a query parameter
) -> CommandOptions:
    if idempotency_key is not None and not is_name(idempotency_key):
        raise Problem(400, "ParameterInvalid", "Idempotency-Key must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    expected = None
    if if_match is not None:
        version = if_match.strip().removeprefix("W/").strip('"')
        if not (version.isascii() and version.isdigit() and len(version) < 16):
            raise Problem(400, "ParameterInvalid", 'If-Match must be an ETag as it was given, like "7".')
        expected = int(version)
    command_id = idempotency_key or new_id()
    return CommandOptions(command_id, idempotency_key is not None, expected, dry_run, traceparent)


async def _body_of(request: Request, **path: str) -> dict[str, Any]:
    """The command's data: the body, with what the path says filled in. Raises `Problem`."""
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > LONGEST_BODY:
            raise Problem(413, "BodyTooLarge", f"A body may be at most {LONGEST_BODY:,} bytes.")
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if raw and kind != "application/json":
        raise Problem(415, "MediaTypeUnsupported", f"Send the body as application/json, not {kind}.")
    try:
        data = from_json(raw, allow_inf_nan=False) if raw else {}
    except ValueError as error:
        raise Problem(400, "BodyUnreadable", f"The body is not JSON: {error}.") from None
    if not isinstance(data, dict):
        raise Problem(400, "BodyUnreadable", "The body must be a JSON object: the command's data.")
    for name, value in path.items():
        if data.setdefault(name, value) != value:
            raise Problem(422, "PathContradicted", f"The body's {name!r} is not the one in the path; leave it out.")
    return data


async def _command(
    request: Request, caller: Caller, options: CommandOptions, kind: str, channel: str, data: dict[str, Any]
) -> Outcome:
    """Publishes a command and waits for its outcome; a rejection becomes a `Problem`."""
    if not is_name(channel):
        raise channel_unknown(channel)
    outcome = await publisher_of(request).send_raw(
        kind,
        data,
        channel=channel,
        account=caller.required_account(),
        actor=caller.actor,
        command_id=options.command_id,
        expected_version=options.expected_version,
        dry_run=options.dry_run,
        traceparent=options.traceparent,
        timeout=LONGEST_WAIT_S,
    )
    if isinstance(outcome.body, CommandRejected):
        raise problem_of_rejection(outcome.body, outcome.command_id)
    return outcome


def seal_key(caller: Caller, options: CommandOptions) -> SealKey:
    """A key pair of this request. A retry with the same Idempotency-Key and API key makes the same pair, so that it
    can open the same outcome; nobody else can make it."""
    if not options.idempotent:
        return SealKey()
    derived = HKDF(SHA256(), 32, salt=None, info=b"switchboard seal " + options.command_id.encode())
    return SealKey(derived.derive(caller.token.encode()))


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """A channel's settings with the versions of its resources."""

    settings: ChannelSettings
    versions: settings_queries.Versions
    cursor: Cursor | None

    def headers(self, resource: str | None = None) -> dict[str, str]:
        """The version in which the resource changed last, the channel's where None, and from where changes go on."""
        version = self.settings.version if resource is None else self.versions.of(resource)
        return {"ETag": f'"{version}"'} | cursor_header(self.cursor)


def cursor_header(cursor: Cursor | None) -> dict[str, str]:
    return {} if cursor is None else {"Switchboard-Cursor": str(cursor)}


async def snapshot_cursor(request: Request, connection: Connection, read_model: str | None = None) -> Cursor | None:
    """Where the changes go on that the connection's snapshot does not have; None while the broker is away.

    ``read_model`` is the name under which another one than that of settings reads the events.
    """
    feed: Feed | None = request.app.state.feed
    if feed is None:
        return None
    places = await (settings_queries.places(connection) if read_model is None else places_of(connection, read_model))
    return Cursor(feed.deployment, tuple(places.get(number, Place(0, 0)) for number in range(feed.partitions)))


async def read_settings(request: Request, caller: Caller, channel: str, min_version: int | None) -> ReadSettings:
    """The settings as the read model has them, at least of ``min_version``. Raises `Problem`."""
    if not is_name(channel):
        raise channel_unknown(channel[:128])
    pool = pool_of(request)
    if min_version is not None:
        await _wait_for(pool, caller.account, channel, min_version)
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        found = await settings_queries.settings_of(connection, channel, rfc3339(request.app.state.now()))
        cursor = await snapshot_cursor(request, connection)
    if found is None or caller.account not in (None, found[0].account):
        raise channel_unknown(channel)
    return ReadSettings(*found, cursor)


async def _wait_for(pool: Pool, account: str | None, channel: str, min_version: int) -> None:
    """Another account's channel is waited for as one that nobody registered: neither the time nor the answer tells."""
    deadline = asyncio.get_running_loop().time() + LONGEST_WAIT_S
    while (version := await settings_queries.channel_version(pool, account, channel)) < min_version:
        if asyncio.get_running_loop().time() > deadline:
            raise Problem(
                504,
                "ReadModelBehind",
                f"The read model has version {version}, not yet {min_version}; try again shortly.",
                version=version,
            )
        await asyncio.sleep(_LOOK_EVERY_S)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A read of one channel's settings."""

    request: Request
    caller: Authenticated
    channel: str
    min_version: Annotated[int | None, Query(ge=0)] = None

    async def settings(self) -> ReadSettings:
        return await read_settings(self.request, self.caller, self.channel, self.min_version)


@dataclass(frozen=True, slots=True)
class _Commanding:
    """A command to one channel."""

    request: Request
    caller: Authenticated
    channel: str
    options: Annotated[CommandOptions, Depends(command_options)]

    async def body(self, **path: str) -> dict[str, Any]:
        return await _body_of(self.request, **path)

    async def send(self, kind: str, data: dict[str, Any]) -> Outcome:
        return await _command(self.request, self.caller, self.options, kind, self.channel, data)


Reading = Annotated[_Reading, Depends(_Reading)]
Commanding = Annotated[_Commanding, Depends(_Commanding)]
