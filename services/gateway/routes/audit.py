"""Audits: read from the log itself, each answer with the log position that it rests on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from services.audit.log.errors import AuditError, Unclear
from services.audit.log.source import Log
from services.audit.timeline.audit_log import AuditFilter
from services.audit.timeline.diff import diff_report
from services.audit.timeline.schemas import AuditAnswers, AuditDiff, AuditLogPage
from services.audit.timeline.settings_at import LATEST, Moment, SettingsAt, channel_at, channels_at, parse_moment
from services.audit.verification.schemas import Verification
from services.audit.verification.verify import verify
from services.gateway.audit_pages import AuditPages
from services.gateway.authentication.caller import Authenticated, Caller
from services.gateway.log_reads import LOG_PROBLEMS, encode_answer, json_response, read_log
from services.gateway.problem_types import raises
from services.gateway.reads import require_channel

MAX_COMPARED_BYTES = 4 * 1024 * 1024
MAX_COMPARED_VALUES = 20_000
"""Of the settings at both times. Comparing as many takes about a second, and cannot be ended before."""

A_TIME = "an instant, like 2026-11-22T08:00:00Z, a version of the channel, like 7, or `now`."

router = APIRouter(prefix="/v1/audit", tags=["Audit"])

When = Annotated[str, Query(description=f"The time: {A_TIME}")]


@router.get("/at", response_model=AuditAnswers)
@raises("AccountMissing", *LOG_PROBLEMS)
async def audit_at(request: Request, caller: Authenticated, at: When, channel: str | None = None) -> Response:
    """Shows a channel's settings as they were at a time, or those of every channel of the account."""

    def answer(found: list[list[SettingsAt]]) -> dict[str, Any]:
        return {"answers": [answers[0].as_json() for answers in found]}

    return await _at_times(request, caller, {"at": at}, channel, answer)


async def _at_times(
    request: Request,
    caller: Caller,
    times: dict[str, str],
    channel: str | None,
    answer: Callable[[list[list[SettingsAt]]], dict[str, Any]],
) -> Response:
    now = request.app.state.now()
    if channel is not None:
        await require_channel(request, caller, channel)

    async def query(log: Log) -> bytes:
        moments = [parse_moment(text, name) for name, text in times.items()]
        if channel is not None:
            return encode_answer(answer([await channel_at(log, channel, moments, now)]))
        return encode_answer(answer(await channels_at(log, moments, now, account=caller.required_account())))

    return json_response(await read_log(request, caller, query))


@router.get("/diff", response_model=AuditDiff)
@raises(*LOG_PROBLEMS)
async def audit_diff(
    request: Request,
    caller: Authenticated,
    channel: str,
    before: Annotated[str, Query(alias="from", description=f"The earlier time: {A_TIME}")],
    after: Annotated[str, Query(alias="to", description=f"The later time: {A_TIME}")] = LATEST.text,
) -> Response:
    """Shows what changed between two times: in words, and as a JSON Patch (RFC 6902) of the settings."""

    def answer(found: list[list[SettingsAt]]) -> dict[str, Any]:
        ((earlier, later),) = found
        require_comparable(earlier, later)
        return diff_report(earlier, later)

    return await _at_times(request, caller, {"from": before, "to": after}, channel, answer)


def require_comparable(*compared: SettingsAt) -> None:
    """Raises `AuditError`."""
    settings = [one.settings for one in compared if one.settings is not None]
    size = sum(len(one.model_dump_json()) for one in settings)
    values = _count_values([one.model_dump() for one in settings])
    for found, limit, of_what in ((size, MAX_COMPARED_BYTES, "bytes"), (values, MAX_COMPARED_VALUES, "values")):
        if found > limit:
            raise AuditError(
                f"The settings at the two times have {found:,} {of_what} together, and at most {limit:,} are compared "
                "over HTTP; `switchboard audit diff` beside the broker has no limit."
            )


def _count_values(value: object) -> int:
    count, left = 0, [value]
    while left:
        found = left.pop()
        count += 1
        if isinstance(found, dict):
            left += found.values()
        elif isinstance(found, (list, tuple)):
            left += found
    return count


@router.get("/log", response_model=AuditLogPage)
@raises(*LOG_PROBLEMS)
async def audit_log(
    request: Request,
    caller: Authenticated,
    channel: str | None = None,
    actor: str | None = None,
    message_type: Annotated[str | None, Query(alias="type")] = None,
    since: str | None = None,
    until: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Lists events and rejections by time, at most `limit`. If there are `more`, continue with `after`.

    `read_to` is the end of the log at the time of reading. Without `more`, nothing else precedes it.
    """
    if channel is not None:
        await require_channel(request, caller, channel)
    pages: AuditPages = request.app.state.audit_pages

    async def query(log: Log) -> bytes:
        asked = AuditFilter(channel, caller.account, actor, message_type, _instant(since), _excluded_end(until))
        return encode_answer(await pages.page(log, asked, after, limit))

    return json_response(await read_log(request, caller, query))


def _instant(since: str | None) -> int | None:
    return None if since is None else _parse_time(since, "since").time


def _excluded_end(until: str | None) -> int | None:
    return None if until is None else _parse_time(until, "until").excluded_end


def _parse_time(text: str, parameter: str) -> Moment:
    moment = parse_moment(text, parameter)
    if moment.time is None:
        raise Unclear(f"{parameter!r} is wrong: {text!r} must be a time, like 2026-11-22T08:00:00Z.")
    return moment


@router.get("/verify", response_model=Verification)
@raises(*LOG_PROBLEMS)
async def audit_verify(
    request: Request,
    caller: Authenticated,
    partition: Annotated[int | None, Query(ge=0, description="Only this one.")] = None,
) -> dict[str, Any]:
    """Verifies the log, or one partition of it. Only the platform may: a partition holds every account's channels."""

    async def query(log: Log) -> dict[str, Any]:
        report = await verify(log, partitions=None if partition is None else [partition])
        return report.as_json()

    return await read_log(request, caller, query)
