"""Taking back one command of a channel's history, or all since then: by new commands, never by rewriting the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.business_system import BusinessSystemDeleted
from contracts.channel import ChannelRegistered, ChannelRetired
from contracts.message import CommandData, rfc3339
from contracts.signature import SignatureRefreshed, SignatureRevealed, SignatureRevoked
from services.audit.as_of import channel_events
from services.audit.history import Happened, fold, systems_of
from services.audit.leaves import Leaves, leaves_of, taken_back
from services.audit.log import AuditError, Log, NoSuchVersion, Position, Progress
from services.audit.plan import Leave, plan
from services.domain.state import ChannelState


@dataclass(frozen=True, slots=True)
class Undone:
    """A command of the past: the state before its first event, after its last, and as the log has it now."""

    channel: str
    events: tuple[Happened, ...]
    before: ChannelState
    after: ChannelState
    current: ChannelState
    read_to: Position


@dataclass(frozen=True, slots=True)
class Undoing:
    """The commands that take it back, what the settings then are, and sentences on what cannot come back."""

    undone: Undone
    commands: list[CommandData]
    current: Leaves
    wanted: Leaves
    stays: list[str]


async def command_at(log: Log, channel: str, version: int, progress: Progress = lambda _: None) -> Undone:
    """The command whose event made the version. Raises `AuditError` where there is none."""
    state = before = after = ChannelState()
    read_to = Position("", 0, 0)
    command: list[Happened] = []
    found: list[Happened] | None = None
    async for event, end in channel_events(log, channel, progress):
        if not command or command[-1].envelope.causationid != event.envelope.causationid:
            command = []
            if found is None:
                before = state
        command.append(event)
        state, read_to = fold(state, event), end
        if event.envelope.sequence == version:
            found = command
        if found is command:
            after = state
    if state.channel is None:
        raise NoSuchVersion(f"The log holds no event of channel {channel!r}.")
    if found is None:
        raise NoSuchVersion(
            f"Channel {channel!r} has the versions 1 to {state.channel.version}; there is no version {version}."
        )
    return Undone(channel, tuple(found), before, after, state, read_to)


def undo(undone: Undone, leave: Leave, now: int, *, since: bool) -> Undoing:
    """How to take the command back; with ``since``, everything after it too.

    Raises `AuditError` where nobody can, or where somebody changed the same thing since.
    """
    current = leaves_of(undone.current, now)
    known = undone.current.channel
    first = undone.events[0]
    if isinstance(first.body, ChannelRegistered):
        raise AuditError("A registration cannot be taken back; RetireChannel ends the channel, for good.")
    if known is None or known.retired:
        raise AuditError("The channel is retired for good: nothing of it comes back.")
    before, after = leaves_of(undone.before, now), leaves_of(undone.after, now)
    if since:
        taken = taken_back(before, current, current)
    else:
        taken = taken_back(before, after, current)
        if taken.conflicts:
            places = ", ".join(sorted({"/".join(path) for path in taken.conflicts}))
            raise AuditError(
                f"Version {first.envelope.sequence} of {undone.channel!r} cannot be taken back alone: the channel is "
                f"at version {known.version}, and {places} changed since. Take back the later change first, or "
                "everything since then with --since."
            )
    stays = _cannot_come_back(undone, since=since)
    return Undoing(undone, plan(current, taken.wanted, leave), current, taken.wanted, stays)


def _cannot_come_back(undone: Undone, *, since: bool) -> list[str]:
    said = [sentence for event in undone.events for sentence in _of_event(event, undone)]
    if since:
        was, now = _keys(undone.before), _keys(undone.current)
        for system, keys in was.items():
            gone = [key for key in keys if key not in now.get(system, ())]
            if gone:
                said.append(_deleted(system, gone))
    return list(dict.fromkeys(said))


def _keys(state: ChannelState) -> dict[str, list[str]]:
    return {name: [one.key_id for one in record.signatures] for name, record in systems_of(state).items()}


def _deleted(system: str, keys: Sequence[str]) -> str:
    return (
        f"The secret of {', '.join(keys)} of business system {system!r} is deleted and never comes back; where the "
        "system needs a signature, a new one is drawn, and its receiver must be given it."
    )


def _of_event(event: Happened, undone: Undone) -> list[str]:
    match event.body:
        case BusinessSystemDeleted():
            return [_deleted(event.body.system, _keys(undone.before).get(event.body.system, []))]
        case ChannelRetired():
            return ["A retired channel never comes back."]
        case SignatureRefreshed():
            system = event.body.system
            said = [f"Signature {event.body.key_id} of {system!r} is drawn, and stays until the next refresh."]
            for old in event.body.replaced:
                if old.valid_until <= rfc3339(event.time):
                    said.append(_deleted(system, [old.key_id]))
                else:
                    said.append(f"Signature {old.key_id} of {system!r} does not become the current one again.")
            return said
        case SignatureRevealed():
            system, key = event.body.system, event.body.key_id
            return [f"Whoever was shown signature {key} of {system!r} has seen it; RefreshSignature replaces it."]
        case SignatureRevoked():
            return [_deleted(event.body.system, [event.body.key_id])]
        case _:
            return []
