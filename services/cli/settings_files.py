"""What ``switchboard settings`` does: exports a channel's settings to a file, and applies such a file to channels."""

from __future__ import annotations

from pathlib import Path

import typer

from contracts import topics
from services.audit.log.errors import AuditError
from services.audit.settings_files.apply_file import ChannelPlan, plan_for_channels
from services.audit.settings_files.plan import Permission
from services.audit.settings_files.plan_execution import ExecutionResult
from services.audit.settings_files.settings_file import export, parse, with_version
from services.audit.timeline.channel_settings import state_leaves
from services.audit.timeline.settings_at import channel_at, parse_moment
from services.cli.errors import require_id
from services.cli.log_access import now_ms, offsets_to_read, open_log, progress_bar
from services.cli.send_plan import ask_about_addresses, command_json, confirm, send_plans
from services.cli.wording import count


async def export_settings(channel: str, out: Path | None, when: str, copy: Path | None) -> int:
    require_id("--channel", channel)
    text = await _export(channel, when, copy)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, "utf-8")
    return 0


async def _export(channel: str, when: str, copy: Path | None) -> str:
    moment = parse_moment(when)
    async with open_log(copy) as log:
        with progress_bar("reading", await offsets_to_read(log, topics.EVENTS.name, channel=channel)) as moved:
            answer = (await channel_at(log, channel, [moment], now_ms(), moved))[0]
    if answer.settings is None:
        raise AuditError(" ".join(answer.notes))
    return export(answer, state_leaves(answer.state, answer.clock))


async def apply_settings(
    file: Path,
    channel: str | None,
    provider: str | None,
    *,
    dry_run: bool,
    yes: bool,
    overwrite: bool,
    permission: Permission,
    actor: str | None,
) -> int:
    require_id("--channel", channel)
    require_id("--provider", provider)
    if channel is not None and provider is not None:
        raise AuditError("Name either --channel or --provider.")
    try:
        text = file.read_bytes().decode()  # with the line ends that it has
    except OSError as error:
        raise AuditError(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise AuditError(f"{file} is not UTF-8 text.") from None
    found = await _applications(text, permission, channel, provider, overwrite=overwrite)
    for plan in found:
        _print_plan(plan)
    differing = [plan for plan in found if plan.commands]
    if provider is not None:
        who = f": {', '.join(plan.channel for plan in differing)}" if differing else ""
        typer.echo(f"{len(differing)} of {count(len(found), 'channel')} differ{who}")
    ready = [plan for plan in differing if plan.obstacle is None]
    stopped = len(ready) < len(differing)
    if dry_run or not ready:
        allowed = await ask_about_addresses([plan.planned() for plan in ready], actor=actor)
        return 1 if stopped or not allowed else 0
    if not confirm(f"Send {count(sum(len(plan.commands) for plan in ready), 'command')}?", yes=yes):
        typer.echo("Nothing was sent.")
        return 1
    done = await send_plans([plan.planned() for plan in ready], actor=actor, why="settings-apply")
    for carried in done:
        if carried.refused is None and carried.planned.channel == parse(text).channel:
            _update_version(file, text, carried)
    return 1 if stopped or any(carried.refused for carried in done) else 0


def _update_version(file: Path, text: str, done: ExecutionResult) -> None:
    """Only where the file shows all that the version has: otherwise the next apply would revert what came between."""
    updated = with_version(text, done.version)
    if updated == text:
        return
    if not done.uninterrupted:
        typer.echo(f"{file} keeps its version, as somebody changed the channel in between; export it again.")
        return
    file.write_bytes(updated.encode())
    typer.echo(f"{file} now has version {done.version}")


async def _applications(
    text: str, permission: Permission, channel: str | None, provider: str | None, *, overwrite: bool
) -> list[ChannelPlan]:
    file = parse(text)
    target = None if provider is not None else channel or file.channel
    async with open_log(None) as log:
        with progress_bar("reading", await offsets_to_read(log, topics.EVENTS.name, channel=target)) as moved:
            return await plan_for_channels(
                log,
                file,
                now_ms(),
                permission,
                channel=channel,
                provider=provider,
                overwrite=overwrite,
                progress=moved,
            )


def _print_plan(plan: ChannelPlan) -> None:
    typer.echo(f"{plan.channel}, of account {plan.account}, at version {plan.seen} ({plan.current.position}):")
    for sentence in [*plan.words, *plan.signatures] or ["Nothing differs."]:
        typer.echo(f"  {sentence}")
    for command in plan.commands:
        typer.echo(f"  would send {type(command).__name__} {command_json(command)}")
    if plan.obstacle is not None:
        typer.echo(f"  NOT possible: {plan.obstacle}")
