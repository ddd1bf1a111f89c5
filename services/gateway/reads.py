"""Requests that read the settings read model: its settings, their versions, and the cursor of the snapshot."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header, Query, Request, Response

from contracts.cursor import Cursor, Position
from contracts.ids import is_id
from contracts.message import rfc3339
from contracts.settings import BusinessSystemSettings, ChannelSettings, IntentSettings
from projections.settings import queries as settings_queries
from services.gateway.authentication.caller import Authenticated, Caller
from services.gateway.feed.feed import Feed
from services.gateway.json_documents import document, json_response
from services.gateway.long_polls import long_poll, polls_of, wait_for
from services.gateway.problem_types import raises
from services.gateway.problems import Problem, channel_unknown
from services.gateway.requests import built, pool_of
from services.gateway.shared_polls import AccountChannel, VersionPoll
from services.infrastructure.checkpoints import next_offsets
from services.infrastructure.postgres import Connection

READ_MODEL_TIMEOUT_S = 10.0
_ENTITY_TAG = re.compile(r'"[^"]*"')
MinVersion = Annotated[int | None, Query(ge=0)]


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """A channel's settings with the versions of its resources."""

    settings: ChannelSettings
    versions: settings_queries.ResourceVersions
    cursor: Cursor | None

    def headers(self, resource: str | None = None) -> dict[str, str]:
        """Returns the ETag and the cursor from which changes continue.

        The ETag is the version in which the resource, or one above or below it, last changed, which `If-Match` is
        compared with; the channel's version if ``resource`` is None.
        """
        version = self.settings.version if resource is None else self.versions.of(resource)
        return {"ETag": f'"{version}"'} | cursor_header(self.cursor)

    def system(self, system: str) -> BusinessSystemSettings:
        """Returns a business system's settings. Raises `Problem`."""
        for settings in self.settings.business_systems:
            if settings.system == system:
                return settings
        detail = f"No business system {system!r} is open on this channel."
        raise Problem(404, "BusinessSystemUnknown", detail, system=system)

    def intent(self, system: str, code: str) -> IntentSettings:
        """Returns an intent's settings. Raises `Problem`."""
        for intent in self.system(system).intents:
            if intent.code == code:
                return intent
        detail = f"Business system {system!r} has no intent {code!r}."
        raise Problem(404, "IntentUnknown", detail, system=system, code=code)


@raises("ReadModelBehind", "TooManyFollowers")
@dataclass(frozen=True, slots=True)
class _ReadRequest:
    """A request that reads one channel's settings, or looks whether there is the channel."""

    request: Request
    caller: Authenticated
    channel: str
    min_version: MinVersion = None

    async def require_channel(self) -> tuple[str, int]:
        """Returns the channel's account and version. Raises `Problem`."""
        return await require_channel(self.request, self.caller, self.channel, self.min_version)

    async def settings(self) -> ReadSettings:
        """Returns the settings, with intents that `json_documents` can show."""
        return await read_settings(self.request, self.caller, self.channel, self.min_version, document)


ReadRequest = Annotated[_ReadRequest, built(_ReadRequest)]


@dataclass(frozen=True, slots=True)
class _ConditionalRead(_ReadRequest):
    """A request that reads what its ETag says everything of.

    But for signatures whose grace period is over: they are left out without a new ETag. Their ends are shown before.
    """

    if_none_match: Annotated[
        str | None,
        Header(alias="If-None-Match", description="ETags of earlier reads: answered with 304 if one is still right."),
    ] = None

    def respond(self, content: Any, headers: dict[str, str]) -> Response:
        """Answers with what was read, or with 304 if the client has it."""
        known = _ENTITY_TAG.findall(self.if_none_match or "")
        if headers["ETag"] in known or self.if_none_match == "*":
            return Response(status_code=304, headers=headers)
        return json_response(content, headers)


ConditionalRead = Annotated[_ConditionalRead, built(_ConditionalRead)]


def cursor_header(cursor: Cursor | None) -> dict[str, str]:
    return {} if cursor is None else {"Switchboard-Cursor": str(cursor)}


async def snapshot_cursor(request: Request, connection: Connection, read_model: str | None = None) -> Cursor | None:
    """Returns the cursor after which the connection's snapshot lacks changes; None while the broker is away.

    ``read_model`` names the read model, if it is not that of the settings.
    """
    feed: Feed | None = request.app.state.feed
    if feed is None:
        return None
    if read_model is None:
        positions = await settings_queries.positions(connection)
    else:
        offsets = await next_offsets(connection, read_model)
        positions = {partition: Position(offset, None) for partition, offset in offsets.items()}
    return Cursor(feed.deployment, tuple(positions.get(number, Position(0, 0)) for number in range(feed.partitions)))


async def require_channel(
    request: Request, caller: Caller, channel: str, min_version: int | None = None
) -> tuple[str, int]:
    """Returns the channel's account and version, ``min_version`` or later. Raises `Problem`.

    Another account's channel looks like an unknown one, and is waited for like one: neither the time nor the answer
    tells them apart.
    """
    if not is_id(channel):
        raise channel_unknown(channel[:128])
    account, version = await settings_queries.owner_and_version(pool_of(request), caller.account, channel)
    if min_version is not None and version < min_version:
        await wait_for_version(request, caller, polls_of(request).settings, (caller.account, channel), min_version)
        account, version = await settings_queries.owner_and_version(pool_of(request), caller.account, channel)
        if version < min_version:
            detail = f"The read model has version {version}, not yet {min_version}; try again shortly."
            raise Problem(504, "ReadModelBehind", detail, version=version)
    if not version:
        raise channel_unknown(channel)
    return account, version


async def read_settings(
    request: Request,
    caller: Caller,
    channel: str,
    min_version: int | None = None,
    parse: settings_queries.Parse = json.loads,
) -> ReadSettings:
    """Returns the settings from the read model, of version ``min_version`` or later. Raises `Problem`."""
    if not is_id(channel):
        raise channel_unknown(channel[:128])
    if min_version is not None:
        await require_channel(request, caller, channel, min_version)
    pool = pool_of(request)
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        found = await settings_queries.channel_settings(
            connection, caller.account, channel, rfc3339(request.app.state.now()), parse
        )
        cursor = await snapshot_cursor(request, connection)
    if found is None:
        raise channel_unknown(channel)
    return ReadSettings(*found, cursor)


async def wait_for_version(
    request: Request, caller: Caller, poll: VersionPoll, channel: AccountChannel, version: int
) -> bool:
    """Waits for at most `READ_MODEL_TIMEOUT_S`. Returns whether the channel has the version, or a later one.

    Raises `Problem` where too many wait, or the caller's credential ends, and `QueueFull`.
    """
    if await poll.find((channel, version)) is not None:
        return True
    async with long_poll(request, caller):
        return await wait_for(request, poll, (channel, version), READ_MODEL_TIMEOUT_S)
