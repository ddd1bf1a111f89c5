"""Sending what `audit undo` and `settings apply` planned: shown first, asked about, sent with the versions seen."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Sequence

import typer

from contracts.ids import new_id
from contracts.message import CommandData
from contracts.publisher import Outcome, Publisher
from services.audit.carrying_out import CarriedOut, Planned, carry_out, refusal
from services.cli.reading import broker_address


def data_of(command: CommandData) -> str:
    return json.dumps(command.model_dump(mode="json", exclude_unset=True, by_alias=True), ensure_ascii=False)


def confirmed(question: str, *, yes: bool) -> bool:
    """Raises `Unusable` where nobody is there to answer."""
    from services.cli.main import Unusable

    if yes:
        return True
    typer.echo(f"{question} [y/N] ", nl=False)
    sys.stdout.flush()
    answer = sys.stdin.readline()
    if not answer:
        raise Unusable("Nobody answered; nothing was sent. --yes sends without asking.")
    return answer.strip().lower() in ("y", "yes")


async def send_all(everything: Sequence[Planned], *, actor: str | None, why: str) -> list[CarriedOut]:
    """Channel after channel; says of each command what became of it. ``why`` begins the correlation id."""
    from services.infrastructure.kafka import security_options

    def each(command: CommandData, outcome: Outcome) -> None:
        if outcome.accepted:
            typer.echo(f"  accepted, version {outcome.version}: {type(command).__name__} {data_of(command)}")

    done = []
    async with Publisher(broker_address(), source="switchboard-cli", **security_options()) as publisher:
        for planned in everything:
            typer.echo(f"{planned.channel}:")
            carried = await carry_out(
                publisher, planned, actor=actor or getpass.getuser(), correlation_id=f"{why}:{new_id()}", each=each
            )
            if carried.refused is not None:
                rest = len(planned.commands) - len(carried.outcomes) - 1
                typer.echo(f"  {refusal(*carried.refused, planned.seen)}")
                typer.echo(
                    f"  {len(carried.outcomes)} commands were accepted before it, {rest} after it were not sent."
                )
            done.append(carried)
    return done
