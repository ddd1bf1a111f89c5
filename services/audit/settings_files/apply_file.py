"""Plans how to apply a settings file to channels: the differences, the commands, and the obstacles."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.json_values import same_json
from contracts.message import CommandData
from contracts.settings_diff import SIGNATURES, Leaves, diff
from services.audit.log.errors import AuditError
from services.audit.log.source import Log, Progress
from services.audit.settings_files.plan import Permission, plan, rehearse, signature_effects
from services.audit.settings_files.plan_execution import CommandPlan
from services.audit.settings_files.settings_file import SettingsFile, target_leaves
from services.audit.timeline.channel_settings import state_leaves
from services.audit.timeline.sentences import describe_changes
from services.audit.timeline.settings_at import LATEST, Moment, SettingsAt, channel_at, channels_at


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """One channel that the file is applied to; ``signatures`` are sentences on their changes.

    ``obstacle`` is a sentence where nothing can be sent.
    """

    current: SettingsAt
    account: str
    seen: int
    commands: list[CommandData]
    words: list[str]
    signatures: list[str]
    obstacle: str | None = None

    @property
    def channel(self) -> str:
        return self.current.channel

    def planned(self) -> CommandPlan:
        return CommandPlan(self.channel, self.account, self.seen, self.commands)


async def plan_for_channels(
    log: Log,
    file: SettingsFile,
    now: int,
    permission: Permission,
    *,
    channel: str | None = None,
    provider: str | None = None,
    overwrite: bool = False,
    progress: Progress = lambda _: None,
) -> list[ChannelPlan]:
    """For the channel given, or all of the provider's customers' that are not retired, or the file's own.

    Raises `AuditError` where there is no such channel, or the file names none.
    """
    if provider is not None:
        found = [answers[0] for answers in await channels_at(log, [LATEST], now, provider=provider, progress=progress)]
        channels = [answer for answer in found if answer.settings is not None and not answer.settings.retired]
        if not channels:
            raise AuditError(f"No channel that is not retired names {provider!r} as its provider.")
        return [plan_for_channel(file, answer, None, now, permission) for answer in channels]
    target = channel or file.channel
    if target is None:
        raise AuditError("The file names no channel: name it with --channel.")
    # A file of this very channel says which version it shows; what changed since is not overwritten unasked.
    exported_version = file.version if target == file.channel and not overwrite else None
    moments = (
        [LATEST] if exported_version is None else [LATEST, Moment(str(exported_version), version=exported_version)]
    )
    answers = await channel_at(log, target, moments, now, progress)
    return [plan_for_channel(file, answers[0], answers[1] if exported_version is not None else None, now, permission)]


def plan_for_channel(
    file: SettingsFile, answer: SettingsAt, exported: SettingsAt | None, now: int, permission: Permission
) -> ChannelPlan:
    """``answer`` is the channel as it is, ``exported`` as it was in the version that the file shows."""
    registered = answer.state.channel
    if registered is None:
        raise AuditError(f"The log holds no event of channel {answer.channel!r}; the platform registers channels.")
    if registered.retired:
        raise AuditError(f"Channel {answer.channel!r} is retired: it takes no commands any more.")
    current = state_leaves(answer.state, now)
    target = target_leaves(file, current, as_itself=file.channel == answer.channel)
    commands = plan(current, target, permission)
    sentences = describe_changes(current, _without_signature_changes(target, current), planned=True)
    obstacle = None
    if exported is not None:
        obstacle = _changed_since(answer, exported, current, target, now)
    rehearsal = rehearse(answer.channel, answer.state, commands, now)
    if obstacle is None and rehearsal.refused is not None:
        command, rejection = rehearsal.refused
        obstacle = f"{type(command).__name__} would be refused: {rejection.message}"
    signatures = signature_effects(answer.state, rehearsal.state, now)
    return ChannelPlan(answer, registered.account, registered.version, commands, sentences, signatures, obstacle)


def _without_signature_changes(target: Leaves, current: Leaves) -> Leaves:
    """Signatures are not the file's to say, so they are no difference."""
    kept = {path: value for path, value in target.items() if path[-1] != SIGNATURES}
    return kept | {path: current[path] for path in current if path[-1] == SIGNATURES and path[:-1] in kept}


def _changed_since(answer: SettingsAt, exported: SettingsAt, current: Leaves, target: Leaves, now: int) -> str | None:
    """A sentence with both versions where the file would overwrite what somebody changed after the version it shows."""
    before = state_leaves(exported.state, now)
    others = diff(before, current)
    overwritten = sorted(
        "/".join(path)
        for path in diff(current, target)
        if path in others and path[-1] != SIGNATURES and not same_json(current.get(path), target.get(path))
    )
    if not overwritten or answer.settings is None:
        return None
    return (
        f"The file shows version {exported.moment.text} of {answer.channel!r}, which is at version "
        f"{answer.settings.version} "
        f"now, and {', '.join(overwritten)} changed in between. Export it again, or apply over that with --overwrite."
    )
