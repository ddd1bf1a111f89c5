"""``switchboard settings``: a channel's settings as a YAML file that people keep in git, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="A channel's settings as a file.", no_args_is_help=True)


@app.command("export")
def export(
    channel: Annotated[str, typer.Option(help="the channel's id")],
    out: Annotated[Path | None, typer.Option(help="where to write it; default: standard output")] = None,
    when: Annotated[str, typer.Option("--at", metavar="TIME|VERSION", help="as they were then")] = "now",
    copy: Annotated[Path | None, typer.Option("--from", help="a copy of the log, instead of the broker's")] = None,
) -> None:
    """Writes a channel's settings as YAML. Signatures are not in it: a secret cannot be put back from a file."""
    from services.cli import answers
    from services.cli.settings_files import export_settings

    answers.run(export_settings(channel, out, when, copy))


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
    from services.audit.plan import Leave
    from services.cli import answers
    from services.cli.settings_files import apply_settings

    leave = Leave(force, acknowledge_international_rates)
    answers.run(
        apply_settings(file, channel, provider, dry_run=dry_run, yes=yes, overwrite=overwrite, leave=leave, actor=actor)
    )
