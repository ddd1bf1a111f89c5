"""Audits over HTTP: read from the log itself, each answer with the position that it rests on.

Reading the log takes long where the log is: it is done in a thread, at most two readings at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any, TypeVar

from aiokafka.errors import KafkaError
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from contracts.ids import is_name
from services.audit.as_of import LATEST, Then, channel_at, channels_at, moment
from services.audit.difference import difference
from services.audit.kafka_log import KafkaLog
from services.audit.log import AuditError, BrokenLog, Log, NoSuchVersion, Unclear, ends_of
from services.audit.trail import Asked, Entry, spans_asked, trail
from services.audit.verify import verify
from services.gateway.problems import Problem, channel_unknown
from services.gateway.requests import Authenticated, Caller, Reading, read_settings
from services.gateway.routes import get_settings
from services.infrastructure.kafka import security_options
from services.infrastructure.settings import Settings

router = APIRouter(prefix="/v1")

READINGS_AT_ONCE = 2
LONGEST_WAIT_S = 10.0

Answer = TypeVar("Answer")
When = Annotated[str, Query(description="an instant, like 2026-11-22T08:00:00Z, a version, like 7, or now")]


async def _read(request: Request, work: Callable[[Log], Coroutine[Any, Any, Answer]]) -> Answer:
    """What ``work`` finds in the log. Raises `Problem`."""
    slots: asyncio.Semaphore | None = getattr(request.app.state, "audits", None)
    if slots is None:
        slots = request.app.state.audits = asyncio.Semaphore(READINGS_AT_ONCE)
    try:
        async with asyncio.timeout(LONGEST_WAIT_S):
            await slots.acquire()
    except TimeoutError:
        raise Problem(503, "AuditsBusy", "Other audits are reading the log at the moment; try again shortly.") from None
    try:
        return await asyncio.to_thread(asyncio.run, _with_log(work))
    except Unclear as error:
        raise Problem(400, "ParameterInvalid", str(error)) from None
    except NoSuchVersion as error:
        raise Problem(404, "VersionUnknown", str(error)) from None
    except BrokenLog as error:
        raise Problem(500, "LogNotSound", str(error)) from None
    except AuditError as error:
        raise Problem(409, "AuditImpossible", str(error)) from None
    except KafkaError:
        raise Problem(503, "Unavailable", "The broker is not there at the moment; try again shortly.") from None
    finally:
        slots.release()


async def _with_log(work: Callable[[Log], Awaitable[Answer]]) -> Answer:
    async with _log() as log:
        return await work(log)


@asynccontextmanager
async def _log() -> AsyncIterator[Log]:
    broker = Settings.from_environment().kafka_bootstrap_servers
    if broker is None:
        raise KafkaError
    async with KafkaLog(broker, security_options()) as log:
        yield log


async def _own(request: Request, caller: Caller, channel: str) -> None:
    """Another account's channel looks like an unknown one."""
    if not is_name(channel):
        raise channel_unknown(channel)
    await read_settings(request, caller, channel, None)


@router.get("/channels/{channel}/settings", tags=["settings"])
async def settings_at(reading: Reading, at: When | None = None) -> JSONResponse:
    """The channel's settings, whole; with ``at``, as they were then, from the log.

    ``Switchboard-Position`` then names the last event that the answer rests on, as topic/partition/offset.
    """
    if at is None:
        return await get_settings(reading)
    await _own(reading.request, reading.caller, reading.channel)

    async def look(log: Log) -> Then:
        return (await channel_at(log, reading.channel, [moment(at)], reading.request.app.state.now()))[0]

    then = await _read(reading.request, look)
    if then.settings is None:
        raise Problem(404, "NotYetRegistered", " ".join(then.notes), channel=reading.channel)
    headers = {"ETag": f'"{then.settings.version}"', "Switchboard-Position": str(then.position)}
    if then.notes:
        headers["Switchboard-Note"] = " ".join(then.notes).encode("ascii", "replace").decode()
    return JSONResponse(then.settings.model_dump(mode="json", by_alias=True), headers=headers)


@router.get("/audit/at", tags=["audit"])
async def audit_at(request: Request, caller: Authenticated, at: When, channel: str | None = None) -> dict[str, Any]:
    """A channel's settings as they were then, or those of every channel of the account."""
    return {"answers": [thens[0].answer() for thens in await _thens(request, caller, [at], channel)]}


async def _thens(request: Request, caller: Caller, texts: list[str], channel: str | None) -> list[list[Then]]:
    now = request.app.state.now()
    if channel is not None:
        await _own(request, caller, channel)

    async def look(log: Log) -> list[list[Then]]:
        moments = [moment(text) for text in texts]
        if channel is not None:
            return [await channel_at(log, channel, moments, now)]
        return await channels_at(log, moments, now, account=caller.required_account())

    return await _read(request, look)


@router.get("/audit/diff", tags=["audit"])
async def audit_diff(
    request: Request,
    caller: Authenticated,
    channel: str,
    before: Annotated[str, Query(alias="from")],
    after: Annotated[str, Query(alias="to")] = LATEST.text,
) -> dict[str, Any]:
    """What changed from one moment to the other: in words, and as a JSON Patch (RFC 6902) of the settings."""
    thens = (await _thens(request, caller, [before, after], channel))[0]
    return difference(thens[0], thens[1])


@router.get("/audit/log", tags=["audit"])
async def audit_log(
    request: Request,
    caller: Authenticated,
    channel: str | None = None,
    actor: str | None = None,
    kind: Annotated[str | None, Query(alias="type")] = None,
    since: str | None = None,
    until: str | None = None,
    after: Annotated[str | None, Query(description="the next page: what the one before gave as next")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Events and rejections by time, at most ``limit``; where there are ``more``, go on with ``after``.

    ``read_to`` is how far the log was there: without ``more`` there is nothing else before it.
    """
    if channel is not None:
        await _own(request, caller, channel)

    async def look(log: Log) -> dict[str, Any]:
        asked = Asked(channel, caller.account, actor, kind, _instant(since), _instant(until))
        spans = await spans_asked(log, asked)
        found: list[Entry] = []
        passed = after is None
        async with aclosing(trail(log, asked, spans)) as entries:
            async for entry in entries:
                if passed:
                    found.append(entry)
                    if len(found) > limit:
                        break
                passed = passed or str(entry.position) == after
        if not passed:
            raise Unclear("'after' must be what a page with the same parameters gave as its 'next'.")
        more = len(found) > limit
        return {
            "entries": [entry.answer() for entry in found[:limit]],
            "more": more,
            "next": str(found[limit - 1].position) if more else None,
            "read_to": [end.cited() for end in ends_of(spans)],
        }

    return await _read(request, look)


def _instant(text: str | None) -> int | None:
    if text is None:
        return None
    wanted = moment(text)
    if wanted.time is None:
        raise Unclear(f"{text!r} must be a time, like 2026-11-22T08:00:00Z.")
    return wanted.time


@router.get("/audit/verify", tags=["audit"])
async def audit_verify(
    request: Request, caller: Authenticated, partition: Annotated[int | None, Query(ge=0)] = None
) -> dict[str, Any]:
    """Checks the log, or one partition of it; for the platform alone: a partition holds every account's channels."""
    if caller.access.role != "platform":
        raise Problem(403, "Forbidden", "Only the platform verifies the log: it holds every account's channels.")

    async def look(log: Log) -> dict[str, Any]:
        report = await verify(log, partitions=None if partition is None else [partition])
        return report.answer()

    return await _read(request, look)
