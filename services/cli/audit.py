"""``switchboard audit``: queries on the event log. Every answer cites the log position that it is based on.

A command imports what it needs when it runs, so that the other commands start quickly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.output import Format, Output
from services.cli.wording import examples

app = typer.Typer(
    help="What the log says: who changed what, settings at a time, checks, and undo.", no_args_is_help=True
)

Copy = Annotated[Path | None, typer.Option("--from", help="read this copy of the log instead of the broker's")]
Channel = Annotated[str | None, typer.Option(help="one channel")]
Account = Annotated[str | None, typer.Option(help="one account")]


@app.command(
    "log", epilog=examples("switchboard audit log --channel demo-whatsapp", "switchboard audit log --since 2026-11-01")
)
def log_(
    channel: Channel = None,
    account: Account = None,
    actor: Annotated[str | None, typer.Option(help="the actor")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="type of the event, the command or the rejection")] = None,
    since: Annotated[str | None, typer.Option(help="a time: entries from then on")] = None,
    until: Annotated[str | None, typer.Option(help="a time: entries before it")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="at most this many; default: all")] = None,
    output: Output = None,
    copy: Copy = None,
) -> None:
    """Prints events and rejections, with actor, source, and the values before and after. Includes reveals."""
    from services.cli import audit_commands

    audit_commands.run(audit_commands.log(channel, account, actor, type_, since, until, copy, limit, output))


@app.command("at")
def at(
    when: Annotated[str, typer.Argument(metavar="TIME|VERSION", help="like 2026-11-22T08:00:00Z, 7, or now")],
    channel: Channel = None,
    account: Account = None,
    output: Output = None,
    copy: Copy = None,
) -> None:
    """Prints the settings of a channel at a time or version, or those of every channel of an account."""
    from services.cli import audit_commands

    audit_commands.run(audit_commands.at(when, channel, account, copy, output))


@app.command(
    "diff",
    epilog=examples(
        "switchboard audit diff 3 now --channel demo-whatsapp",
        "switchboard audit diff 2026-11-01 now --account acme",
    ),
)
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="a time or a version")],
    other: Annotated[str, typer.Argument(metavar="B", help="a time or a version")],
    channel: Channel = None,
    account: Account = None,
    output: Annotated[
        Format | None,
        typer.Option("--output", "-o", help="default: sentences, and the JSON Patch in a line", show_default=False),
    ] = None,
    copy: Copy = None,
) -> None:
    """Prints what changed from A to B: in sentences, and as a JSON Patch (RFC 6902) of the settings."""
    from services.cli import audit_commands

    audit_commands.run(audit_commands.diff(one, other, channel, account, copy, output))


@app.command("verify")
def verify_(
    anchor: Annotated[Path | None, typer.Option(help="compare with this anchor")] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="the public key (PEM) that the anchor must be signed with")
    ] = None,
    partition: Annotated[list[int] | None, typer.Option(help="check only this partition; may be repeated")] = None,
    database: Annotated[
        bool, typer.Option("--database", help="also compare the read models in SWITCHBOARD_DATABASE_URL")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="partitions read in parallel; default: one per processor if the log is long"),
    ] = None,
    copy: Copy = None,
) -> None:
    """Checks every hash chain, sequence and fold of the log. Exit code 1: it lists bad records."""
    from services.cli import audit_commands

    audit_commands.run(
        audit_commands.verify_log(copy, anchor, public_key, partition or None, database=database, jobs=jobs)
    )


@app.command("anchor")
def anchor_(
    key: Annotated[Path, typer.Option(help="the Ed25519 private key to sign with, in PEM")],
    out: Annotated[Path | None, typer.Option(help="the file to write; default: standard output")] = None,
    make_key: Annotated[
        bool, typer.Option("--make-key", help="create the key first, with its public key in a file next to it")
    ] = False,
    copy: Copy = None,
) -> None:
    """Checks the log, and writes a signed digest of it, to be stored elsewhere."""
    from services.cli import audit_commands

    audit_commands.run(audit_commands.write_anchor(key, out, copy, make_key=make_key))


@app.command("replay")
def replay_(
    until: Annotated[
        str | None, typer.Option(help="a time: replay up to and including it; default: the end of the log")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="write the events to this file as JSON Lines; - is standard output")
    ] = None,
    write_copy: Annotated[
        Path | None,
        typer.Option(help="write a copy of the log to this file, for --from: events, outcomes, channel-state"),
    ] = None,
    copy: Copy = None,
) -> None:
    """Folds the log up to a time and compares the result with channel-state. Calls nobody, changes nothing."""
    from services.cli import audit_commands

    audit_commands.run(audit_commands.replay_log(until, out, write_copy, copy))


@app.command("undo", epilog=examples("switchboard audit undo 3 --channel demo-whatsapp --dry-run"))
def undo_(
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="the version whose command is undone")],
    channel: Annotated[str, typer.Option(help="the channel's id")],
    since: Annotated[bool, typer.Option("--since", help="undo everything after it too")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would happen, and change nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask for confirmation")] = False,
    force: Annotated[bool, typer.Option("--force", help="also delete what templates refer to")] = False,
    acknowledge_international_rates: Annotated[
        bool,
        typer.Option(
            "--acknowledge-international-rates", help="own numbers may incur international authentication rates"
        ),
    ] = False,
    actor: Annotated[str | None, typer.Option(help="the actor; default: the user of this machine")] = None,
) -> None:
    """Restores the settings from before a version, by new commands. Shows them first, and what cannot be restored."""
    from services.cli import audit_commands
    from services.cli.undo import undo_version

    audit_commands.run(
        undo_version(
            version,
            channel,
            since=since,
            dry_run=dry_run,
            yes=yes,
            force=force,
            acknowledged=acknowledge_international_rates,
            actor=actor,
        )
    )
