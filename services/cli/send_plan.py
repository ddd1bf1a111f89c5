"""Sends the commands that `audit undo` and `settings apply` planned, after a confirmation."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import typer

from contracts.ids import new_id
from contracts.kafka.publisher import Outcome, Publisher
from contracts.message import CommandData
from services.audit.settings_files.plan_execution import (
    CommandPlan,
    ExecutionResult,
    ask_addresses,
    describe_rejection,
    execute_plan,
    has_addresses,
)
from services.cli.connections import bootstrap_servers
from services.cli.errors import CliError
from services.cli.local_user import local_user
from services.cli.wording import count


def command_json(command: CommandData) -> str:
    return json.dumps(command.model_dump(mode="json", exclude_unset=True, by_alias=True), ensure_ascii=False)


def confirm(question: str, *, yes: bool) -> bool:
    """Asks for a confirmation on the terminal. Raises `CliError` at the end of standard input."""
    if yes:
        return True
    typer.echo(f"{question} [y/N] ", nl=False)
    sys.stdout.flush()
    answer = sys.stdin.readline()
    if not answer:
        raise CliError("Nobody answered; nothing was sent. --yes sends without asking.")
    return answer.strip().lower() in ("y", "yes")


async def ask_about_addresses(plans: Sequence[CommandPlan], *, actor: str | None) -> bool:
    """Asks the decider whether it allows the plans' API Request URLs, and prints what it refuses."""
    from services.infrastructure.kafka import security_options

    allowed = True
    if not any(has_addresses(plan) for plan in plans):
        return allowed
    async with Publisher(bootstrap_servers(), source="switchboard-cli", **security_options()) as publisher:
        for plan in plans:
            refused = await ask_addresses(publisher, plan, actor=actor or local_user())
            if refused is not None:
                allowed = False
                typer.echo(f"{plan.channel}: {describe_rejection(*refused, plan.seen)}")
    return allowed


async def send_plans(plans: Sequence[CommandPlan], *, actor: str | None, why: str) -> list[ExecutionResult]:
    """Executes the plans one after the other and prints each outcome. ``why`` is the start of the correlation id."""
    from services.infrastructure.kafka import security_options

    def print_outcome(command: CommandData, outcome: Outcome) -> None:
        if outcome.accepted:
            typer.echo(f"  accepted, version {outcome.version}: {type(command).__name__} {command_json(command)}")

    results = []
    async with Publisher(bootstrap_servers(), source="switchboard-cli", **security_options()) as publisher:
        for plan in plans:
            typer.echo(f"{plan.channel}:")
            result = await execute_plan(
                publisher,
                plan,
                actor=actor or local_user(),
                correlation_id=f"{why}:{new_id()}",
                each=print_outcome,
            )
            if result.refused is not None:
                rest = len(plan.commands) - len(result.outcomes) - 1
                typer.echo(f"  {describe_rejection(*result.refused, plan.seen)}")
                typer.echo(
                    f"  Accepted before it: {count(len(result.outcomes), 'command')}. "
                    f"Not sent after it: {count(rest, 'command')}."
                )
            results.append(result)
    return results
