"""``switchboard follow``: the changes of settings as they happen, over Kafka, a JSON line each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from contextlib import aclosing
from typing import Annotated

import typer

from contracts.changes import CursorRefused, GapInChanges
from contracts.commands import EVENTS
from contracts.ids import is_name
from contracts.subscriber import Subscriber, SubscriberBroken

app = typer.Typer()


@app.command()
def follow(
    cursor: Annotated[str, typer.Option(help="as a line, or an HTTP answer, carried it; beginning, or now")] = "now",
    account: Annotated[str | None, typer.Option(envvar="SWITCHBOARD_ACCOUNT", help="one account's changes")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="may be repeated")] = None,
    kind: Annotated[list[str] | None, typer.Option("--type", help="an event's type; may be repeated")] = None,
    resource: Annotated[list[str] | None, typer.Option(help="itself and what lies below or above it")] = None,
    group: Annotated[str | None, typer.Option(help="share the changes with others that name the same group")] = None,
    until_now: Annotated[bool, typer.Option(help="end with what there is at this moment")] = False,
) -> None:
    """Prints each event as it happens, with its ``cursor``: --cursor goes on behind it."""
    from services.cli.main import Unusable

    for option, values in (("--account", [] if account is None else [account]), ("--channel", channel or [])):
        for value in values:
            if not is_name(value):
                raise Unusable(f"{option} is {value!r}; it must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    for one in kind or ():
        if one not in EVENTS:
            raise Unusable(f"--type is {one!r}; it must be of {', '.join(EVENTS)}.")
    if group == "":
        raise Unusable("--group is empty; leave it out, or give the group a name.")
    try:
        with contextlib.suppress(BrokenPipeError):
            asyncio.run(
                _follow(cursor, account, channel or [], kind or [], resource or [], group, endless=not until_now)
            )
    except (CursorRefused, GapInChanges, SubscriberBroken) as error:
        raise Unusable(str(error)) from None


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
    from services.cli.main import _broker
    from services.infrastructure.kafka import security_options
    from services.infrastructure.settings import Settings

    subscriber = Subscriber(_broker(Settings.from_environment()), group=group, **security_options())
    changes = subscriber.changes(
        cursor, account=account, channels=channels, types=types, resources=resources, endless=endless
    )
    async with aclosing(changes):
        async for change in changes:
            line = {"cursor": change.cursor, **json.loads(change.value)}
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
            sys.stdout.flush()
