"""``switchboard settings``: exports a channel's settings to a YAML file, and applies such a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="A channel's settings as a file: export it, apply it.", no_args_is_help=True)


@app.command("export")
def export(
    channel: Annotated[str, typer.Option(help="the channel's id")],
    out: Annotated[Path | None, typer.Option(help="the file to write; default: standard output")] = None,
    when: Annotated[
        str, typer.Option("--at", metavar="TIME|VERSION", help="the settings at this time or version")
    ] = "now",
    copy: Annotated[
        Path | None, typer.Option("--from", help="read this copy of the log instead of the broker's")
    ] = None,
) -> None:
    """Writes a channel's settings as YAML, without signatures: a secret cannot be restored from a file."""
    from services.cli import audit_commands
    from services.cli.settings_files import export_settings

    audit_commands.run(export_settings(channel, out, when, copy))


@app.command("apply")
def apply(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="a file of `settings export`; settings that it leaves out stay as they are"
        ),
    ],
    channel: Annotated[str | None, typer.Option(help="apply to this channel; default: the file's own")] = None,
    provider: Annotated[str | None, typer.Option(help="apply to all channels of this provider's customers")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the difference, and change nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask for confirmation")] = False,
    force: Annotated[bool, typer.Option("--force", help="also delete what templates refer to")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="also overwrite what changed after the file's version")
    ] = False,
    acknowledge_international_rates: Annotated[
        bool,
        typer.Option(
            "--acknowledge-international-rates", help="own numbers may incur international authentication rates"
        ),
    ] = False,
    actor: Annotated[str | None, typer.Option(help="the actor; default: the user of this machine")] = None,
) -> None:
    """Shows the difference, asks, and sends the commands. Applied again, it sends nothing.

    Applies the channel's name and provider to the file's own channel only.
    """
    from services.audit.settings_files.plan import Permission
    from services.cli import audit_commands
    from services.cli.settings_files import apply_settings

    permission = Permission(force, acknowledge_international_rates)
    audit_commands.run(
        apply_settings(
            file, channel, provider, dry_run=dry_run, yes=yes, overwrite=overwrite, permission=permission, actor=actor
        )
    )
