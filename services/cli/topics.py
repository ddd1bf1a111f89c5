"""``switchboard topics``: the topics on the broker, who may use them, and how many partitions they have."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from services.cli.connections import bootstrap_servers, with_broker
from services.cli.errors import CliError
from services.cli.wording import count
from services.infrastructure.config import Settings

app = typer.Typer(help="The topics, rights and quotas on the broker.", no_args_is_help=True)


@app.command("apply")
def apply(
    check: Annotated[bool, typer.Option("--check", help="change nothing; exit code 1 if anything differs")] = False,
) -> None:
    """Gives topics their settings, and each login its rights and quotas; says what differed."""
    from services.infrastructure.broker_rights import apply_rights
    from services.infrastructure.kafka import security_options
    from services.infrastructure.topics import apply_topics
    from services.infrastructure.unfinished_restore import require_whole_log

    settings, broker = with_broker(Settings.from_environment())

    async def apply_all() -> list[str]:
        security = security_options()
        await require_whole_log(broker, security)
        topics = await apply_topics(broker, settings.partitions, security, check=check)
        return topics + await apply_rights(broker, security, check=check)

    differences = asyncio.run(apply_all())
    for difference in differences:
        typer.echo(difference)
    if not differences:
        typer.echo("Nothing differs.")
    if check and differences:
        raise typer.Exit(1)


@app.command("grow")
def grow(
    partitions: Annotated[int, typer.Option(help="a multiple of the present number")],
    check: Annotated[bool, typer.Option("--check", help="change nothing; say what would move")] = False,
) -> None:
    """Adds partitions while everything runs. Commands wait for some seconds; nothing is lost, and order is kept.

    If it is interrupted, no command is decided until the same command has finished it.
    """
    from services.decider.grow_partitions import GrowRefused
    from services.decider.grow_partitions import grow as grow_partitions
    from services.infrastructure.kafka import security_options
    from services.infrastructure.unfinished_restore import require_whole_log

    broker, security = bootstrap_servers(), security_options()
    asyncio.run(require_whole_log(broker, security))
    try:
        report = asyncio.run(grow_partitions(broker, security, partitions, check=check))
    except GrowRefused as refusal:
        raise CliError(str(refusal)) from None
    numbers, channels = f"{report.growth.before} to {report.growth.to} partitions", count(report.channels, "channel")
    if check:
        typer.echo(f"Would grow from {numbers}; {channels} would move.")
    else:
        typer.echo(f"Grown from {numbers}; {channels} moved, and nothing was decided for {report.seconds:.1f} s.")
