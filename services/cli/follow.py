"""``switchboard follow``: settings changes as they happen, read from Kafka, one JSON line per change."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from typing import Annotated

import typer

from contracts.cursor import InvalidCursor, SequenceGap
from contracts.kafka.subscriber import Subscriber, SubscriberError
from contracts.message_types import EVENTS
from contracts.settings import RESOURCE_FORMS, is_resource
from services.cli.connections import bootstrap_servers
from services.cli.errors import CliError, require_id
from services.cli.wording import examples

app = typer.Typer()


@app.command(
    epilog=examples(
        "switchboard follow --account acme",
        "switchboard follow --channel demo-whatsapp --cursor beginning --until-now",
    )
)
def follow(
    cursor: Annotated[str, typer.Option(help="the cursor of a line or of an HTTP answer; or: beginning, now")] = "now",
    account: Annotated[
        str | None, typer.Option(envvar="SWITCHBOARD_ACCOUNT", help="only this account's changes")
    ] = None,
    channel: Annotated[list[str] | None, typer.Option(help="only this channel; may be repeated")] = None,
    kind: Annotated[list[str] | None, typer.Option("--type", help="only this type of event; may be repeated")] = None,
    resource: Annotated[list[str] | None, typer.Option(help="only this resource, and those below and above it")] = None,
    group: Annotated[str | None, typer.Option(help="share the changes with the other members of this group")] = None,
    until_now: Annotated[bool, typer.Option("--until-now", help="end at the current end of the log")] = False,
) -> None:
    """Prints each event as it happens, with its `cursor`: --cursor resumes after it."""
    for option, values in (("--account", [] if account is None else [account]), ("--channel", channel or [])):
        for value in values:
            require_id(option, value)
    for event_type in kind or ():
        if event_type not in EVENTS:
            raise CliError(f"--type is {event_type!r}; it must be of {', '.join(EVENTS)}.")
    for one in resource or ():
        if not is_resource(one):
            raise CliError(f"--resource is {one!r}; it must be one of {', '.join(RESOURCE_FORMS)}.")
    if group == "":
        raise CliError("--group is empty; leave it out, or give the group a name.")
    try:
        asyncio.run(_follow(cursor, account, channel or [], kind or [], resource or [], group, endless=not until_now))
    except (InvalidCursor, SequenceGap, SubscriberError) as error:
        raise CliError(str(error)) from None


async def _follow(
    cursor: str,
    account: str | None,
    channels: list[str],
    types: list[str],
    resources: list[str],
    group: str | None,
    *,
    endless: bool,
) -> None:
    from services.infrastructure.kafka import security_options

    subscriber = Subscriber(bootstrap_servers(), group=group, **security_options())
    changes = subscriber.changes(
        cursor, account=account, channels=channels, types=types, resources=resources, endless=endless
    )
    async with aclosing(changes):
        async for change in changes:
            line = {"cursor": change.cursor, **json.loads(change.value)}
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
            sys.stdout.flush()
