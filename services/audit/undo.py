"""Taking back one command of a channel's history, or all since then: by new commands, never by rewriting the log."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.channel import ChannelRegistered
from contracts.message import CommandData
from contracts.rejections import Rejection
from contracts.signature import SignatureRefreshed, SignatureRevealed, SignatureRevoked
from services.audit.as_of import channel_events
from services.audit.history import Happened, fold
from services.audit.leaves import Leaves, leaves_of, taken_back
from services.audit.log import AuditError, Log, NoSuchVersion, Position, Progress
from services.audit.plan import Leave, plan, rehearse, valid_keys, what_becomes_of_signatures
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
    """The commands that take it back, what the settings then are, and sentences on what cannot come back.

    ``refused`` is the first of the commands that the domain's rules would refuse, and why.
    """

    undone: Undone
    commands: list[CommandData]
    current: Leaves
    wanted: Leaves
    stays: list[str]
    refused: tuple[CommandData, Rejection] | None


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
    commands = plan(current, taken.wanted, leave)
    rehearsal = rehearse(undone.channel, undone.current, commands, now)
    stays = _cannot_come_back(undone, rehearsal.state, now, since=since)
    return Undoing(undone, commands, current, taken.wanted, stays, rehearsal.refused)


def _cannot_come_back(undone: Undone, reached: ChannelState, now: int, *, since: bool) -> list[str]:
    """``reached`` is the state that the commands lead to."""
    begun, ended = undone.events[0].time, undone.events[-1].time
    was, current, will = valid_keys(undone.before, begun), valid_keys(undone.current, now), valid_keys(reached, now)
    became = current if since else valid_keys(undone.after, ended)
    said = []
    for system in sorted(was.keys() | became.keys()):
        before, after, then = (keys.get(system, []) for keys in (was, became, will))
        said += [
            f"The secret of {key} of business system {system!r} is deleted and never comes back."
            for key in before
            if key not in after and key not in current.get(system, ())
        ]
        said += [
            f"Signature {key} of business system {system!r} is drawn, and stays until the next refresh."
            for key in after
            if key not in before and key in then
        ]
        if before and before[0] in then[1:]:
            said.append(f"Signature {before[0]} of business system {system!r} does not become the current one again.")
    for event in undone.events:
        match event.body:
            case SignatureRevealed(key_id=key, system=system):
                said.append(
                    f"Whoever was shown signature {key} of {system!r} has seen it; RefreshSignature replaces it."
                )
            case SignatureRefreshed(key_id=key, system=system, api_request_url=str()):
                said.append(
                    f"Signature {key}, drawn before business system {system!r} is opened, stays for its opening."
                )
            case SignatureRevoked(key_id=key, system=system) if system not in was:
                said.append(f"The secret of {key} of business system {system!r} is deleted and never comes back.")
            case _:
                pass  # what else happened is told by the states
    return said + what_becomes_of_signatures(undone.current, reached, now)
