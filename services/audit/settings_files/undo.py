"""Undoes one command of a channel's history, or all since then, by new commands; the log is never rewritten."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.channel import ChannelRegistered
from contracts.message import CommandData
from contracts.rejection import Rejection
from contracts.settings_diff import Leaves
from contracts.signature import SignatureRefreshed, SignatureRevealed, SignatureRevoked
from services.audit.log.errors import AuditError, NoSuchVersion
from services.audit.log.recorded_event import RecordedEvent, fold_unbroken
from services.audit.log.source import Log, LogPosition, Progress
from services.audit.settings_files.plan import Permission, plan, rehearse, signature_effects, valid_key_ids
from services.audit.settings_files.three_way_merge import three_way_merge
from services.audit.timeline.channel_settings import state_leaves
from services.audit.timeline.settings_at import channel_events
from services.domain.state import ChannelState


@dataclass(frozen=True, slots=True)
class PastCommand:
    """A command of the past: the state before its first event, after its last, and as the log has it now."""

    channel: str
    events: tuple[RecordedEvent, ...]
    before: ChannelState
    after: ChannelState
    current: ChannelState
    read_to: LogPosition


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """The commands that undo it, the settings that they lead to, and sentences on what cannot be restored.

    ``refused`` is the first of the commands that the domain's rules would refuse, and why.
    """

    undone: PastCommand
    commands: list[CommandData]
    current: Leaves
    target: Leaves
    stays: list[str]
    refused: tuple[CommandData, Rejection] | None


async def command_at(log: Log, channel: str, version: int, progress: Progress = lambda _: None) -> PastCommand:
    """The command whose event made the version. Raises `AuditError` where there is none."""
    state = before = after = ChannelState()
    read_to = LogPosition("", 0, 0)
    command: list[RecordedEvent] = []
    found: list[RecordedEvent] | None = None
    async for event, end in channel_events(log, channel, progress):
        if not command or command[-1].envelope.causationid != event.envelope.causationid:
            command = []
            if found is None:
                before = state
        command.append(event)
        state, read_to = fold_unbroken(state, event), end
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
    return PastCommand(channel, tuple(found), before, after, state, read_to)


def undo(undone: PastCommand, permission: Permission, now: int, *, since: bool) -> UndoPlan:
    """Plans the undo of the command; with ``since``, of everything after it too.

    Raises `AuditError` where nobody can, or where somebody changed the same thing since.
    """
    current = state_leaves(undone.current, now)
    registered = undone.current.channel
    first = undone.events[0]
    if isinstance(first.body, ChannelRegistered):
        raise AuditError("A registration cannot be taken back; RetireChannel ends the channel, for good.")
    if registered is None or registered.retired:
        raise AuditError("The channel is retired for good: nothing of it comes back.")
    before, after = state_leaves(undone.before, now), state_leaves(undone.after, now)
    if since:
        merged = three_way_merge(before, current, current)
    else:
        merged = three_way_merge(before, after, current)
        if merged.conflicts:
            paths = ", ".join(sorted({"/".join(path) for path in merged.conflicts}))
            raise AuditError(
                f"Version {first.envelope.sequence} of {undone.channel!r} cannot be taken back alone: the channel is "
                f"at version {registered.version}, and {paths} changed since. Take back the later change first, or "
                "everything since then with --since."
            )
    commands = plan(current, merged.target, permission)
    rehearsal = rehearse(undone.channel, undone.current, commands, now)
    stays = _cannot_come_back(undone, rehearsal.state, now, since=since)
    return UndoPlan(undone, commands, current, merged.target, stays, rehearsal.refused)


def _cannot_come_back(undone: PastCommand, reached: ChannelState, now: int, *, since: bool) -> list[str]:
    """``reached`` is the state that the commands lead to."""
    begun, ended = undone.events[0].time, undone.events[-1].time
    was, current, will = (
        valid_key_ids(undone.before, begun),
        valid_key_ids(undone.current, now),
        valid_key_ids(reached, now),
    )
    became = current if since else valid_key_ids(undone.after, ended)
    sentences = []
    for system in sorted(was.keys() | became.keys()):
        before, after, answer = (keys.get(system, []) for keys in (was, became, will))
        sentences += [
            f"The secret of {key} of business system {system!r} is deleted and never comes back."
            for key in before
            if key not in after and key not in current.get(system, ())
        ]
        sentences += [
            f"Signature {key} of business system {system!r} was issued, and stays until the next refresh."
            for key in after
            if key not in before and key in answer
        ]
        if before and before[0] in answer[1:]:
            sentences.append(
                f"Signature {before[0]} of business system {system!r} does not become the current one again."
            )
    for event in undone.events:
        match event.body:
            case SignatureRevealed(key_id=key, system=system):
                sentences.append(
                    f"Signature {key} of {system!r} was revealed and stays known; RefreshSignature replaces it."
                )
            case SignatureRefreshed(key_id=key, system=system, api_request_url=str()):
                sentences.append(
                    f"Signature {key}, issued before business system {system!r} is opened, stays for its opening."
                )
            case SignatureRevoked(key_id=key, system=system) if system not in was:
                sentences.append(f"The secret of {key} of business system {system!r} is deleted and never comes back.")
            case _:
                pass  # what else happened is told by the states
    return sentences + signature_effects(undone.current, reached, now)
