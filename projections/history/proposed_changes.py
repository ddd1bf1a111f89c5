"""The proposed changes of a channel and what became of them, folded from the entries of their events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from contracts.message import Time, rfc3339
from contracts.proposed_change import RecordedCommand
from contracts.resources import PROPOSED_CHANGES
from projections.sql import SqlConnection, statements

_SQL = statements(Path(__file__).with_suffix(".sql"))

Status = Literal["proposed", "approved", "applied", "declined", "voided"]
_STATUS: dict[str, Status] = {
    "ChangeProposed": "proposed",
    "ChangeApproved": "approved",
    "ChangeApplied": "applied",
    "ChangeDeclined": "declined",
    "ChangeVoided": "voided",
}


@with_config(use_attribute_docstrings=True)
class ProposedChange(TypedDict):
    """A proposed change; what does not apply is left out."""

    change: str
    status: Status
    """`proposed` waits for approval, `approved` for its instant; the others are over."""

    command: Annotated[RecordedCommand, Field(description="What is carried out.")]
    affects: Annotated[str, Field(description="The resource that it changes.", examples=["otp-scheduling"])]
    before: dict[str, Any]
    """The difference, as resource/field: the values before."""

    after: dict[str, Any]
    digest: str
    """Hex SHA-256 of the command."""

    expected_version: int
    """The channel's version that it was judged at."""

    comment: NotRequired[str]
    at: NotRequired[Time]
    """The instant at which it is carried out."""

    proposed_by: str
    proposed_at: Time
    proposed_in: int
    """The channel's version in which it was proposed."""

    approved_by: NotRequired[str]
    approved_at: NotRequired[Time]
    declined_by: NotRequired[str | None]
    decision_comment: NotRequired[str]
    """Of who approved or declined it."""

    reason: NotRequired[str]
    """Why it is void."""

    closed_at: NotRequired[Time]
    """When it was carried out, declined or void."""

    version: int
    """The channel's version in which its status changed last, which is its ETag."""


@with_config(use_attribute_docstrings=True)
class ProposedChanges(TypedDict):
    """Proposed changes, newest first."""

    changes: list[ProposedChange]
    next: int | None
    """The `before` of the next page."""


async def list_changes(
    connection: SqlConnection,
    account: str,
    channel: str,
    *,
    change: str | None = None,
    before: int | None = None,
    only_open: bool = False,
    limit: int = 100,
) -> list[ProposedChange]:
    """The channel's proposed changes, newest first; those proposed before version ``before``."""
    resource = None if change is None else f"{PROPOSED_CHANGES}/{change}"
    rows = await connection.fetch(_SQL["changes"], channel, account, resource, before, only_open, limit)
    found: dict[str, Any] = {}
    for row in rows:
        _fold(found, row)
    return list(reversed(found.values()))


def _fold(found: dict[str, Any], row: Any) -> None:
    data, time = json.loads(row["data"]), rfc3339(round(row["time"].timestamp() * 1000))
    kind, comment = row["type"], data.pop("comment", None)
    if kind == "ChangeProposed":
        found.pop(data["change"], None)  # an id that was forgotten can stand for another change
        found[data["change"]] = data | {"proposed_at": time, "proposed_in": row["version"]}
        if comment is not None:
            found[data["change"]]["comment"] = comment
    change = found[data["change"]]
    if kind == "ChangeApproved":
        change |= {"approved_by": data["approved_by"], "approved_at": time}
    elif kind == "ChangeDeclined":
        change |= {"declined_by": row["actor"], "closed_at": time}
    elif kind == "ChangeVoided":
        change |= {"reason": data["reason"], "closed_at": time}
    elif kind == "ChangeApplied":
        change |= {"closed_at": time}
    if comment is not None and kind != "ChangeProposed":
        change["decision_comment"] = comment
    change |= {"status": _STATUS[kind], "version": row["version"]}
