"""``switchboard audit``: questions to the log itself. Every answer cites the position that it rests on.

What a command needs is imported when it runs, so that the other commands start quickly.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Questions to the log itself.", no_args_is_help=True)

Copy = Annotated[Path | None, typer.Option("--from", help="a copy of the log, instead of the broker's")]
Channel = Annotated[str | None, typer.Option(help="one channel")]
Account = Annotated[str | None, typer.Option(help="one account")]


@app.command("log")
def log_(
    channel: Channel = None,
    account: Account = None,
    actor: Annotated[str | None, typer.Option(help="who asked")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="of the event, the command, or the rejection")] = None,
    since: Annotated[str | None, typer.Option(help="a time; from then on")] = None,
    until: Annotated[str | None, typer.Option(help="a time; before then")] = None,
    table: Annotated[bool | None, typer.Option("--table/--jsonl", help="default: a table on a terminal")] = None,
    copy: Copy = None,
) -> None:
    """Events and rejections: who, from where, before and after. Reveals are among them."""
    from services.cli import answers

    as_table = sys.stdout.isatty() if table is None else table
    answers.run(answers.log(channel, account, actor, type_, since, until, copy, as_table=as_table))


@app.command("at")
def at(
    when: Annotated[str, typer.Argument(metavar="TIME|VERSION", help="like 2026-11-22T08:00:00Z, 7, or now")],
    channel: Channel = None,
    account: Account = None,
    copy: Copy = None,
) -> None:
    """A channel's settings, or an account's, as they were then; a line of JSON for each channel of an account."""
    from services.cli import answers

    answers.run(answers.at(when, channel, account, copy))


@app.command("diff")
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="a time or a version")],
    other: Annotated[str, typer.Argument(metavar="B", help="a time or a version")],
    channel: Channel = None,
    account: Account = None,
    as_json: Annotated[bool, typer.Option("--json", help="the words and the JSON Patch, as JSON")] = False,
    copy: Copy = None,
) -> None:
    """What changed from A to B: in words, and as a JSON Patch (RFC 6902) of the settings."""
    from services.cli import answers

    answers.run(answers.diff(one, other, channel, account, copy, as_json=as_json))


@app.command("verify")
def verify_(
    anchor: Annotated[Path | None, typer.Option(help="an anchor that was kept elsewhere")] = None,
    public_key: Annotated[Path | None, typer.Option(help="the public key (PEM) that it must be signed with")] = None,
    partition: Annotated[list[int] | None, typer.Option(help="only these partitions; may be repeated")] = None,
    database: Annotated[
        bool, typer.Option(help="also hold the read model of SWITCHBOARD_DATABASE_URL against it")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="partitions read at a time; default: the processors, if the log is long")
    ] = None,
    copy: Copy = None,
) -> None:
    """Checks every chain, count and fold, and names the first bad record; exit code 1 where there is one."""
    from services.cli import answers

    answers.run(answers.verify_log(copy, anchor, public_key, partition or None, database=database, jobs=jobs))


@app.command("anchor")
def anchor_(
    key: Annotated[Path, typer.Option(help="the Ed25519 private key to sign with, in PEM")],
    out: Annotated[Path | None, typer.Option(help="where to write it; default: standard output")] = None,
    make_key: Annotated[bool, typer.Option(help="make the key first, and its public half beside it")] = False,
    copy: Copy = None,
) -> None:
    """Checks the log, and writes what it is at this moment, condensed and signed: to be kept elsewhere."""
    from services.cli import answers

    answers.run(answers.write_anchor(key, out, copy, make_key=make_key))


@app.command("replay")
def replay_(
    until: Annotated[str | None, typer.Option(help="a time; up to and with it. Default: the log's end")] = None,
    out: Annotated[Path | None, typer.Option(help="write the events there as JSON Lines; - is standard output")] = None,
    write_copy: Annotated[
        Path | None, typer.Option(help="write a copy of the log there, for `--from`: events, outcomes, channel-state")
    ] = None,
    copy: Copy = None,
) -> None:
    """Folds the log to a cut and compares the result with channel-state. Calls nobody, changes nothing."""
    from services.cli import answers

    answers.run(answers.replay_log(until, out, write_copy, copy))


@app.command("undo")
def undo_(
    version: Annotated[int, typer.Argument(min=1, help="the version whose command is taken back")],
    channel: Annotated[str, typer.Option(help="the channel's id")],
    since: Annotated[bool, typer.Option("--since", help="and everything after it")] = False,
    dry_run: Annotated[bool, typer.Option(help="say what would happen, and change nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    force: Annotated[bool, typer.Option(help="also where templates refer to what goes")] = False,
    acknowledge_international_rates: Annotated[
        bool, typer.Option(help="own numbers may incur international authentication rates")
    ] = False,
    actor: Annotated[str | None, typer.Option(help="who asks; default: the user of this machine")] = None,
) -> None:
    """Restores what was before a version, by new commands: shows them first, and what cannot come back."""
    from services.cli import answers
    from services.cli.undo import undo_version

    answers.run(
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
