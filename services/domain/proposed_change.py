"""Proposed changes: proposed by one person, approved or declined by another, carried out on approval or at an instant.

An open change is always one that could have been judged now: every event on the path of what it changes makes it void,
in the same transaction. So an approval is of exactly the command, and of the settings, that were proposed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any, cast

from contracts.approval_rejections import (
    ActorMissing,
    AuthorCannotApprove,
    ChangeAlreadyProposed,
    ChangeDecided,
    ChangeNotApproved,
    ChangeNotDue,
    ChangeUnknown,
    InstantHasPassed,
    ReplacedByAnother,
    TooManyProposedChanges,
)
from contracts.channel import ChannelRetired
from contracts.envelope import content_digest
from contracts.message import rfc3339, unix_milliseconds
from contracts.message_types import COMMANDS, Command, Event
from contracts.proposed_change import (
    ApplyChange,
    ApproveChange,
    ChangeApplied,
    ChangeApproved,
    ChangeDeclined,
    ChangeProposed,
    ChangeVoided,
    DeclineChange,
    ProposeChange,
    RecordedCommand,
)
from contracts.rejection import Rejection
from contracts.resources import on_same_path
from services.domain.decision import NOTHING_CHANGES, Context, Decision, Difference, EventMetadata
from services.domain.state import (
    PROPOSED_CHANGES_LIMIT,
    REMEMBERED_CHANGES,
    Channel,
    ClosedChange,
    ImpossibleHistory,
    ProposedChange,
)

Rules = Callable[[Command], Decision | Rejection]
"""Decides a command by its own rules, without asking for an approval."""

_STATUS = {ChangeApplied: "applied", ChangeDeclined: "declined", ChangeVoided: "voided"}


def propose(
    channel: Channel, command: ProposeChange, would: Decision, difference: Difference, context: Context
) -> Decision | Rejection:
    """``would`` is the decision on the proposed command, and ``difference`` what it would change."""
    if context.actor is None:
        return ActorMissing()
    if command.change in channel.open_changes or command.change in channel.closed_changes:
        return ChangeAlreadyProposed(change=command.change)
    at = None if command.at is None else unix_milliseconds(command.at)
    if at is not None and at <= context.now:
        return InstantHasPassed(at=rfc3339(at))
    replaced: tuple[Event, ...] = ()
    if command.replaces is not None:
        earlier = _open(channel, command.replaces)
        if isinstance(earlier, Rejection):
            return earlier
        if earlier.person != context.person:
            return ReplacedByAnother(change=command.replaces, author=earlier.author)
        replaced = (ChangeVoided(change=command.replaces, reason=f"Change {command.change!r} replaces it."),)
    if len(channel.open_changes) - len(replaced) >= PROPOSED_CHANGES_LIMIT:
        return TooManyProposedChanges(limit=PROPOSED_CHANGES_LIMIT)
    if not would.events:
        return NOTHING_CHANGES
    recorded = RecordedCommand(
        type=command.command.type, data=command.command.data.model_dump(mode="json", exclude_unset=True, by_alias=True)
    )
    proposed = ChangeProposed(
        change=command.change,
        proposed_by=context.actor,
        affects=command.resource,
        command=recorded,
        digest=_digest(recorded.type, recorded.data),
        expected_version=channel.version,
        before=difference.before,
        after=difference.after,
        **_given(owner=context.owner, comment=command.comment, at=None if at is None else rfc3339(at)),
    )
    return Decision((*replaced, proposed), notices=would.notices)


def approve(channel: Channel, command: ApproveChange, context: Context, rules: Rules) -> Decision | Rejection:
    found = _open(channel, command.change)
    if isinstance(found, Rejection):
        return found
    if found.approved_by is not None:
        return ChangeDecided(change=command.change, state="approved")
    if context.actor is None:
        return ActorMissing()
    if context.person == found.person:
        return AuthorCannotApprove(change=command.change, author=found.author)
    approved = ChangeApproved(
        change=command.change,
        approved_by=context.actor,
        digest=_digest(found.type, found.data),
        expected_version=found.expected_version,
        **_given(comment=command.comment, at=None if found.at is None else rfc3339(found.at)),
    )
    if found.at is not None:
        return InstantHasPassed(at=rfc3339(found.at)) if found.at <= context.now else Decision((approved,))
    decided = rules(_command(found.type, found.data))
    if isinstance(decided, Rejection):
        return decided
    applied = ChangeApplied(change=command.change, proposed_by=found.author, approved_by=context.actor)
    return decided._replace(events=(approved, applied, *decided.events))


def decline(channel: Channel, command: DeclineChange) -> Decision | Rejection:
    found = _open(channel, command.change)
    if isinstance(found, Rejection):
        return found
    return Decision((ChangeDeclined(change=command.change, **_given(comment=command.comment)),))


def apply(channel: Channel, command: ApplyChange, context: Context, rules: Rules) -> Decision | Rejection:
    found = _open(channel, command.change)
    if isinstance(found, Rejection):
        return found
    if found.approved_by is None or found.at is None:
        return ChangeNotApproved(change=command.change)
    if context.now < found.at:
        return ChangeNotDue(change=command.change, at=rfc3339(found.at))
    decided = rules(_command(found.type, found.data))
    if isinstance(decided, Rejection):  # nobody waits for the answer, so an event says it
        return Decision((ChangeVoided(change=command.change, reason=decided.message),))
    applied = ChangeApplied(change=command.change, proposed_by=found.author, approved_by=found.approved_by)
    return decided._replace(events=(applied, *decided.events))


def with_voided(channel: Channel, decision: Decision) -> Decision:
    """The decision with a `ChangeVoided`, before its own events, of each open change that they overtake."""
    if not channel.open_changes or not decision.events:
        return decision
    closed = {
        event.change for event in decision.events if isinstance(event, (ChangeApplied, ChangeDeclined, ChangeVoided))
    }
    voided = tuple(
        ChangeVoided(change=change, reason=reason)
        for change, proposed in channel.open_changes.items()
        if change not in closed and (reason := _overtaken(proposed, decision.events)) is not None
    )
    return decision._replace(events=(*voided, *decision.events)) if voided else decision


def _overtaken(change: ProposedChange, events: Iterable[Event]) -> str | None:
    for event in events:
        if isinstance(event, ChannelRetired):
            return "The channel was retired."
        if on_same_path(event.resource, change.resource):
            return f"{event.resource!r} changed after it was proposed."
    return None


def _open(channel: Channel, change: str) -> ProposedChange | Rejection:
    if (found := channel.open_changes.get(change)) is not None:
        return found
    if (closed := channel.closed_changes.get(change)) is not None:
        return ChangeDecided(change=change, state=closed.status)
    return ChangeUnknown(change=change)


def _command(kind: str, data: dict[str, Any]) -> Command:
    return cast("Command", COMMANDS[kind].model_validate(data))


def _digest(kind: str, data: dict[str, Any]) -> str:
    return content_digest(kind, data, dry_run=False).decode()


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that have a value: an event leaves out the others."""
    return {name: value for name, value in fields.items() if value is not None}


def proposed(channel: Channel, event: ChangeProposed, metadata: EventMetadata) -> Channel:
    if event.change in channel.open_changes:
        raise ImpossibleHistory(f"change {event.change!r} is open already")
    change = ProposedChange(
        type=event.command.type,
        data=event.command.data,
        resource=event.affects,
        author=event.proposed_by,
        expected_version=event.expected_version,
        changed=metadata.version,
        at=None if event.at is None else unix_milliseconds(event.at),
        owner=event.owner,
    )
    return channel.after(metadata, open_changes=channel.open_changes | {event.change: change})


def approved(channel: Channel, event: ChangeApproved, metadata: EventMetadata) -> Channel:
    change = replace(_require_open(channel, event.change), approved_by=event.approved_by, changed=metadata.version)
    return channel.after(metadata, open_changes=channel.open_changes | {event.change: change})


def closed(channel: Channel, event: ChangeApplied | ChangeDeclined | ChangeVoided, metadata: EventMetadata) -> Channel:
    _require_open(channel, event.change)
    still_open = {name: change for name, change in channel.open_changes.items() if name != event.change}
    remembered = channel.closed_changes | {event.change: ClosedChange(_STATUS[type(event)], metadata.version)}
    forgotten = len(remembered) - REMEMBERED_CHANGES
    return channel.after(
        metadata, open_changes=still_open, closed_changes=dict(islice(remembered.items(), max(0, forgotten), None))
    )


def _require_open(channel: Channel, change: str) -> ProposedChange:
    found = channel.open_changes.get(change)
    if found is None:
        raise ImpossibleHistory(f"change {change!r} is not open")
    return found
