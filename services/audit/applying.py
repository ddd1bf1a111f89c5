"""Applying a settings file to channels: what differs, what would be sent, and what stands against it."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.message import CommandData
from services.audit.as_of import LATEST, Moment, Then, channel_at, channels_at
from services.audit.carrying_out import Planned
from services.audit.difference import words
from services.audit.leaves import SIGNATURES, Leaves, changes, leaves_of, same
from services.audit.log import AuditError, Log, Progress
from services.audit.plan import Leave, plan, rehearse, what_becomes_of_signatures
from services.audit.settings_file import SettingsFile, wanted


@dataclass(frozen=True, slots=True)
class Application:
    """One channel that the file is applied to; ``signatures`` are sentences on what becomes of them.

    ``obstacle`` is a sentence where nothing can be sent.
    """

    then: Then
    account: str
    seen: int
    commands: list[CommandData]
    words: list[str]
    signatures: list[str]
    obstacle: str | None = None

    @property
    def channel(self) -> str:
        return self.then.channel

    def planned(self) -> Planned:
        return Planned(self.channel, self.account, self.seen, self.commands)


async def applications(
    log: Log,
    file: SettingsFile,
    now: int,
    leave: Leave,
    *,
    channel: str | None = None,
    provider: str | None = None,
    overwrite: bool = False,
    progress: Progress = lambda _: None,
) -> list[Application]:
    """For the channel given, or all of the provider's customers' that are not retired, or the file's own.

    Raises `AuditError` where there is no such channel, or the file cannot be meant.
    """
    if provider is not None:
        found = [thens[0] for thens in await channels_at(log, [LATEST], now, provider=provider, progress=progress)]
        channels = [then for then in found if then.settings is not None and not then.settings.retired]
        if not channels:
            raise AuditError(f"No channel that is not retired names {provider!r} as its provider.")
        return [application(file, then, None, now, leave) for then in channels]
    target = channel or file.channel
    if target is None:
        raise AuditError("The file names no channel: name it with --channel.")
    # A file of this very channel says which version it shows; what changed since is not overwritten unasked.
    shown = file.version if target == file.channel and not overwrite else None
    moments = [LATEST] if shown is None else [LATEST, Moment(str(shown), version=shown)]
    thens = await channel_at(log, target, moments, now, progress)
    return [application(file, thens[0], thens[1] if shown is not None else None, now, leave)]


def application(file: SettingsFile, then: Then, shown: Then | None, now: int, leave: Leave) -> Application:
    """``then`` is the channel as it is, ``shown`` as it was in the version that the file shows."""
    known = then.state.channel
    if known is None:
        raise AuditError(f"The log holds no event of channel {then.channel!r}; the platform registers channels.")
    if known.retired:
        raise AuditError(f"Channel {then.channel!r} is retired: it takes no commands any more.")
    current = leaves_of(then.state, now)
    target = wanted(file, current, as_itself=file.channel == then.channel)
    commands = plan(current, target, leave)
    said = words(current, _shown(target, current))
    obstacle = None
    if shown is not None:
        obstacle = _changed_since(then, shown, current, target, now)
    rehearsal = rehearse(then.channel, then.state, commands, now)
    if obstacle is None and rehearsal.refused is not None:
        command, rejection = rehearsal.refused
        obstacle = f"{type(command).__name__} would be refused: {rejection.message}"
    signatures = what_becomes_of_signatures(then.state, rehearsal.state, now)
    return Application(then, known.account, known.version, commands, said, signatures, obstacle)


def _shown(target: Leaves, current: Leaves) -> Leaves:
    """Signatures are not the file's to say, so they are no difference."""
    kept = {path: value for path, value in target.items() if path[-1] != SIGNATURES}
    return kept | {path: current[path] for path in current if path[-1] == SIGNATURES and path[:-1] in kept}


def _changed_since(then: Then, shown: Then, current: Leaves, target: Leaves, now: int) -> str | None:
    """A sentence with both versions where the file would overwrite what somebody changed after the version it shows."""
    before = leaves_of(shown.state, now)
    others = changes(before, current)
    overwritten = sorted(
        "/".join(path)
        for path in changes(current, target)
        if path in others and path[-1] != SIGNATURES and not same(current.get(path), target.get(path))
    )
    if not overwritten or then.settings is None:
        return None
    return (
        f"The file shows version {shown.moment.text} of {then.channel!r}, which is at version {then.settings.version} "
        f"now, and {', '.join(overwritten)} changed in between. Export it again, or apply over that with --overwrite."
    )
