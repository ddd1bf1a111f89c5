"""A channel's settings as a whole: now from the read model, at an earlier time from the log."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from contracts.settings import ChannelSettings
from services.audit.log.source import Log
from services.audit.timeline.settings_at import SettingsAt, channel_at, parse_moment
from services.gateway.json_documents import shown
from services.gateway.log_reads import LOG_PROBLEMS, encode_answer, read_log
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.reads import ConditionalRead
from services.gateway.routes.audit import A_TIME

router = APIRouter(prefix="/v1", tags=["Settings"])

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "Switchboard-LogPosition": {
                "description": "With `at`: the last event that the answer rests on, topic/partition/offset.",
                "schema": {"type": "string"},
            },
            "Switchboard-Note": {
                "description": "With `at`: what the answer does not say.",
                "schema": {"type": "string"},
            },
        }
    }
}


@router.get("/channels/{channel}/settings", response_model=ChannelSettings, responses=_RESPONSES)
@raises("NotYetRegistered", *LOG_PROBLEMS)
async def settings_at(
    read: ConditionalRead,
    at: Annotated[str | None, Query(description=f"As they were then: {A_TIME}")] = None,
) -> Response:
    """Shows the channel's settings as a whole; with `at`, as the log has them at that time."""
    if at is None:
        found = await read.settings()
        return read.respond(shown(found.settings), found.headers())
    await read.require_channel()

    async def query(log: Log) -> tuple[SettingsAt, bytes]:
        answer = (await channel_at(log, read.channel, [parse_moment(at, "at")], read.request.app.state.now()))[0]
        return answer, encode_answer(None if answer.settings is None else shown(answer.settings))

    answer, encoded = await read_log(read.request, read.caller, query)
    if answer.settings is None:
        raise Problem(404, "NotYetRegistered", " ".join(answer.notes), channel=read.channel)
    headers = {"ETag": f'"{answer.settings.version}"', "Switchboard-LogPosition": str(answer.position)}
    if answer.notes:
        headers["Switchboard-Note"] = " ".join(answer.notes).encode("ascii", "replace").decode()
    return Response(encoded, media_type="application/json", headers=headers)
