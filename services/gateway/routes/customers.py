"""Customers: the accounts of the channels in the caller's scope, who differs, and sections saved on many channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from itertools import groupby
from typing import Annotated, Any, NotRequired

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, with_config
from typing_extensions import TypedDict

from contracts.approvals import ApprovalsSettings
from contracts.envelope import validation_message
from contracts.ids import ID_PATTERN, is_id, uuid8_of
from contracts.kafka.publisher import OutcomeTimeout
from contracts.message import CommandData
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.outcome import CommandAccepted
from contracts.settings import SECTIONS, ChannelSettings
from contracts.settings_diff import BUSINESS_SYSTEMS
from projections.settings import queries as settings_queries
from projections.settings.schemas import CustomerPage
from services.gateway.authentication.caller import Authenticated, Caller, confined
from services.gateway.commands import ChannelCommand, CommandOptions, command_options
from services.gateway.problem_types import raises
from services.gateway.problems import Problem, channel_unknown, outcome_timeout
from services.gateway.reads import require_channel, snapshot_cursor
from services.gateway.requests import body_schema, json_body, pool_of
from services.infrastructure.postgres import Connection

router = APIRouter(prefix="/v1/customers", tags=["Customers"])

MAX_CHANNELS = 100
"""That one request saves sections on."""

SHARED_SECTIONS = {field: section for field, section in SECTIONS.items() if section is not ApprovalsSettings}
"""Who approves is what each account decides for itself, and an administrator saves."""

SectionName = StrEnum("SectionName", {section.resource: section.resource for section in SHARED_SECTIONS.values()})  # type: ignore[misc]
_Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
_FIELDS = {"channel", "channel_type", "name", "retired", "version"}


@router.get("", response_model=CustomerPage)
@raises("ChannelUnknown")
async def list_customers(
    request: Request,
    caller: Authenticated,
    template: str | None = None,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many channels.")] = 100,
) -> dict[str, Any]:
    """Lists the accounts in the caller's scope with their channels; a page may end within an account.

    With `template`, each channel says which of its sections and business systems differ from that channel's.
    """
    return await customer_page(request, caller, template, after, limit)


async def customer_page(
    request: Request, caller: Caller, template: str | None, after: str, limit: int
) -> dict[str, Any]:
    """Returns a `CustomerPage`. Raises `Problem`."""
    account, _, channel = after.partition("/")
    if after and not (is_id(account) and is_id(channel)):
        raise Problem(400, "ParameterInvalid", "'after' must be the 'next' of a previous page.")
    scope = caller.scope
    async with (
        pool_of(request).acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        compared = None if template is None else await _template(connection, caller, template)
        channels = await settings_queries.list_by_account(
            connection, caller.account, (account, channel), limit, channel=scope.channel, provider=scope.provider
        )
        accounts = sorted({one.account for one in channels})
        counts = await settings_queries.channel_counts(
            connection, accounts, channel=scope.channel, provider=scope.provider
        )
        systems: dict[str, dict[str, str]] = {}
        if compared is not None:
            compared_ids = [compared.channel, *(one.channel for one in channels)]
            systems = await settings_queries.system_digests(connection, compared_ids)
        cursor = await snapshot_cursor(request, connection)
    return {
        "customers": [
            {
                "account": account,
                "channel_count": counts[account][0],
                "retired_count": counts[account][1],
                "channels": [_beside(one, compared, systems) for one in own],
            }
            for account, own in groupby(channels, lambda one: one.account)
        ],
        "next": f"{channels[-1].account}/{channels[-1].channel}" if len(channels) == limit else None,
        "cursor": None if cursor is None else str(cursor),
    }


def _beside(
    channel: ChannelSettings, template: ChannelSettings | None, systems: dict[str, dict[str, str]]
) -> dict[str, Any]:
    shown = channel.model_dump(include=_FIELDS)
    if template is not None:
        shown["differs"] = [] if channel.retired else [*_differing(channel, template, systems)]
    return shown


def _differing(
    channel: ChannelSettings, template: ChannelSettings, systems: dict[str, dict[str, str]]
) -> Iterator[str]:
    for field, section in SHARED_SECTIONS.items():
        if getattr(channel, field).canonical() != getattr(template, field).canonical():
            yield section.resource
    own, other = systems.get(channel.channel, {}), systems.get(template.channel, {})
    differing = {system for system, _ in own.items() ^ other.items()}
    yield from (f"{BUSINESS_SYSTEMS}/{system}" for system in sorted(differing))


async def _template(connection: Connection, caller: Caller, channel: str) -> ChannelSettings:
    """Returns the settings, without business systems, of a channel in the caller's scope. Raises `Problem`."""
    scope = caller.scope
    if is_id(channel) and scope.channel in (None, channel):
        found = await settings_queries.list_channels(
            connection, caller.account, "", 1, channel=channel, provider=scope.provider
        )
        if found:
            return found[0]
    raise channel_unknown(channel[:128])


class SectionsToSave(BaseModel):
    """The sections, by default all, that ``channels`` shall have as ``template`` has them, each as a whole."""

    model_config = ConfigDict(extra="forbid")

    template: _Id
    channels: Annotated[tuple[_Id, ...], Field(min_length=1, max_length=MAX_CHANNELS)]
    sections: Annotated[frozenset[SectionName], Field(min_length=1)] = frozenset(SectionName)
    international_rates_acknowledged: bool = False

    def commands(self, template: ChannelSettings) -> list[tuple[str, CommandData]]:
        """Returns each section with the command that saves it as the template has it."""
        found: list[tuple[str, CommandData]] = []
        for field, section in SHARED_SECTIONS.items():
            if section.resource in self.sections:
                command = getattr(template, field).save_command()
                if isinstance(command, SaveOtpScheduling):
                    acknowledged = {"international_rates_acknowledged": self.international_rates_acknowledged}
                    command = command.model_copy(update=acknowledged)
                found.append((section.resource, command))
        return found


@with_config(use_attribute_docstrings=True)
class SavedSections(TypedDict):
    """What became of one channel."""

    channel: str
    version: NotRequired[int]
    """The channel's version afterwards; missing where nothing was accepted."""

    saved: list[str]
    """The sections that changed; in a dry run, those that would."""

    problem: NotRequired[dict[str, Any]]
    """Why the rest was not saved, as the response of a request for this channel alone would have it."""


class SavedOnChannels(TypedDict):
    """What became of each channel, in the order of the request."""

    results: list[SavedSections]


@router.post("/settings", response_model=SavedOnChannels, openapi_extra=body_schema(SectionsToSave))
@raises("SectionsInvalid", "ChannelUnknown", "OutcomeTimeout")
async def save_on_channels(
    request: Request, caller: Authenticated, options: Annotated[CommandOptions, Depends(command_options)]
) -> dict[str, Any]:
    """Saves sections of a template channel on other channels, one after the other, each with a result of its own.

    Repeated with the same Idempotency-Key, nothing happens twice.
    """
    if options.expected_version is not None:
        raise Problem(400, "ParameterInvalid", "If-Match is about one channel; leave it out.")
    try:
        asked = SectionsToSave.model_validate(await json_body(request, {}))
    except ValidationError as error:
        raise Problem(422, "SectionsInvalid", validation_message(error)) from None
    return {"results": await save_sections(request, caller, asked, options)}


async def save_sections(
    request: Request, caller: Caller, asked: SectionsToSave, options: CommandOptions
) -> list[dict[str, Any]]:
    """Returns the `SavedSections` of each channel. Raises `Problem` if the template is unknown or no outcome comes."""
    async with pool_of(request).acquire() as connection:
        commands = asked.commands(await _template(connection, caller, asked.template))
    try:
        return [
            await _save_on(request, caller, channel, commands, options) for channel in dict.fromkeys(asked.channels)
        ]
    except OutcomeTimeout as error:
        raise outcome_timeout(error, options.command_id) from None


async def _save_on(
    request: Request, caller: Caller, channel: str, commands: list[tuple[str, CommandData]], options: CommandOptions
) -> dict[str, Any]:
    result: dict[str, Any] = {"channel": channel, "saved": []}
    try:
        caller = await _acting_on(request, caller, channel)
        for resource, command in commands:
            kind = type(command).__name__
            command_id = uuid8_of(options.command_id, caller.required_account(), channel, resource)
            sender = ChannelCommand(request, caller, channel, replace(options, command_id=command_id))
            outcome = await sender.send(kind, command.model_dump(mode="json"))
            if isinstance(outcome.body, CommandAccepted):
                result["version"] = outcome.body.version
                result["saved"] += [resource] if outcome.body.events or outcome.body.would_append else []
    except Problem as problem:
        result["problem"] = problem.as_json()
    return result


async def _acting_on(request: Request, caller: Caller, channel: str) -> Caller:
    """Returns the caller as the channel's account. Raises `Problem` where the channel is not in the caller's scope."""
    if caller.is_narrow:
        return await confined(caller, pool_of(request), [channel])
    account, _ = await require_channel(request, caller, channel)
    return replace(caller, account=account)
