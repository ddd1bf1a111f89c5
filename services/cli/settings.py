"""``switchboard settings``: a channel's settings as a YAML file that people keep in git, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contracts import topics
from services.audit.applying import Application, applications
from services.audit.as_of import channel_at, moment
from services.audit.leaves import leaves_of
from services.audit.log import AuditError
from services.audit.plan import Leave
from services.audit.settings_file import exported, parse, with_version
from services.cli.reading import answered, now_ms, opened, progress_bar, require_name, size_of
from services.cli.sending import confirmed, data_of, send_all

app = typer.Typer(help="A channel's settings as a file.", no_args_is_help=True)


@app.command("export")
def export(
    channel: Annotated[str, typer.Option(help="the channel's id")],
    out: Annotated[Path | None, typer.Option(help="where to write it; default: standard output")] = None,
    when: Annotated[str, typer.Option("--at", metavar="TIME|VERSION", help="as they were then")] = "now",
    copy: Annotated[Path | None, typer.Option("--from", help="a copy of the log, instead of the broker's")] = None,
) -> None:
    """Writes a channel's settings as YAML. Signatures are not in it: a secret cannot be put back from a file."""
    require_name("--channel", channel)
    text = answered(_export(channel, when, copy))
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text)


async def _export(channel: str, when: str, copy: Path | None) -> str:
    wanted = moment(when)
    async with opened(copy) as log:
        with progress_bar("reading", await size_of(log, topics.EVENTS.name, channel=channel)) as moved:
            then = (await channel_at(log, channel, [wanted], now_ms(), moved))[0]
    if then.settings is None:
        raise AuditError(" ".join(then.notes))
    return exported(then, leaves_of(then.state, then.clock))


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="as `settings export` writes it; what it leaves out stays")],
    channel: Annotated[str | None, typer.Option(help="onto this channel; default: the file's own")] = None,
    provider: Annotated[str | None, typer.Option(help="onto all channels of this provider's customers")] = None,
    dry_run: Annotated[bool, typer.Option(help="show the difference, and change nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    force: Annotated[bool, typer.Option(help="also where templates refer to what goes")] = False,
    overwrite: Annotated[bool, typer.Option(help="also what changed after the version that the file shows")] = False,
    acknowledge_international_rates: Annotated[
        bool, typer.Option(help="own numbers may incur international authentication rates")
    ] = False,
    actor: Annotated[str | None, typer.Option(help="who asks; default: the user of this machine")] = None,
) -> None:
    """Shows the difference, asks, and sends the commands with the versions it saw. Applied twice, it sends nothing.

    The channel's name and provider are applied to the file's own channel alone.
    """
    from services.cli.main import Unusable

    require_name("--channel", channel)
    require_name("--provider", provider)
    if channel is not None and provider is not None:
        raise Unusable("Name either --channel or --provider.")
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{file} cannot be read: {error}.") from None
    leave = Leave(force, acknowledge_international_rates)
    found = answered(_applications(text, leave, channel, provider, overwrite=overwrite))
    for one in found:
        _show(one)
    differing = [one for one in found if one.commands]
    if len(found) > 1:
        typer.echo(f"{len(differing)} of {len(found)} channels differ: {', '.join(one.channel for one in differing)}")
    ready = [one for one in differing if one.obstacle is None]
    stopped = len(ready) < len(differing)
    if dry_run or not ready:
        raise typer.Exit(1 if stopped else 0)
    if not confirmed(f"Send {sum(len(one.commands) for one in ready)} commands?", yes=yes):
        typer.echo("Nothing was sent.")
        raise typer.Exit(1)
    done = answered(send_all([one.planned() for one in ready], actor=actor, why="settings-apply"))
    for carried in done:
        if carried.refused is None and carried.planned.channel == parse(text).channel:
            updated = with_version(text, carried.version)
            if updated != text:
                file.write_text(updated)
                typer.echo(f"{file} now says version {carried.version}")
    if stopped or any(carried.refused for carried in done):
        raise typer.Exit(1)


async def _applications(
    text: str, leave: Leave, channel: str | None, provider: str | None, *, overwrite: bool
) -> list[Application]:
    file = parse(text)
    target = None if provider is not None else channel or file.channel
    async with opened(None) as log:
        with progress_bar("reading", await size_of(log, topics.EVENTS.name, channel=target)) as moved:
            return await applications(
                log,
                file,
                now_ms(),
                leave,
                channel=channel,
                provider=provider,
                overwrite=overwrite,
                progress=moved,
            )


def _show(one: Application) -> None:
    typer.echo(f"{one.channel}, of account {one.account}, at version {one.seen} ({one.then.position}):")
    for sentence in one.words or ["Nothing differs."]:
        typer.echo(f"  {sentence}")
    for command in one.commands:
        typer.echo(f"  would send {type(command).__name__} {data_of(command)}")
    if one.obstacle is not None:
        typer.echo(f"  NOT possible: {one.obstacle}")
