"""Sending a plan's commands, each with the version that was seen, so that nobody's change in between is overwritten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from contracts.business_system import EditBusinessSystem, OpenBusinessSystem
from contracts.envelope import Origin
from contracts.kafka.publisher import Outcome, Publisher
from contracts.message import CommandData
from contracts.message_types import Command
from contracts.outcome import CommandAccepted, CommandRejected
from contracts.rejections import ApiRequestUrlRefused
from contracts.resources import on_same_path
from contracts.signature import RefreshSignature


@dataclass(frozen=True, slots=True)
class CommandPlan:
    """The commands to send to one channel, and the version that was read."""

    channel: str
    account: str
    seen: int
    commands: Sequence[CommandData]


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """``outcomes`` are of the commands that were accepted, in order; ``refused`` is the command that stopped it."""

    planned: CommandPlan
    outcomes: tuple[Outcome, ...]
    refused: tuple[CommandData, CommandRejected] | None

    @property
    def version(self) -> int:
        """The channel's version after the last accepted command, or as it was seen."""
        return self.outcomes[-1].version or self.planned.seen if self.outcomes else self.planned.seen

    @property
    def uninterrupted(self) -> bool:
        """Whether the channel's events since the version that was seen are those of the commands, and no others."""
        bodies = [outcome.body for outcome in self.outcomes]
        own = sum(len(body.events) for body in bodies if isinstance(body, CommandAccepted))
        return self.version == self.planned.seen + own


async def execute_plan(
    publisher: Publisher,
    planned: CommandPlan,
    *,
    actor: str,
    correlation_id: str,
    origin: Origin | None = None,
    each: Callable[[CommandData, Outcome], None] = lambda _, __: None,
) -> ExecutionResult:
    """Sends one after the other and stops at the first that is rejected. Raises what `Publisher.send` raises.

    Where an API Request URL may lead only the decider knows, so it is asked first, by dry runs: a plan must not stop
    half-way, after its deletions, for a reason that could be known.
    """
    refused = await ask_addresses(publisher, planned, actor=actor)
    if refused is not None:
        return ExecutionResult(planned, (), refused)
    made: list[tuple[str, int]] = []
    outcomes: list[Outcome] = []
    for command in planned.commands:
        resource = cast("Command", command).resource
        outcome = await publisher.send(
            command,
            channel=planned.channel,
            account=planned.account,
            actor=actor,
            correlation_id=correlation_id,
            origin=origin,
            expected_version=expected_version(planned.seen, resource, made),
        )
        each(command, outcome)
        if isinstance(outcome.body, CommandRejected):
            return ExecutionResult(planned, tuple(outcomes), (command, outcome.body))
        outcomes.append(outcome)
        made.append((resource, outcome.body.version))
    return ExecutionResult(planned, tuple(outcomes), None)


async def ask_addresses(
    publisher: Publisher, planned: CommandPlan, *, actor: str
) -> tuple[CommandData, CommandRejected] | None:
    """Asks the decider, by dry runs, for the first command whose API Request URL it refuses."""
    for command in planned.commands:
        question = _question_of_address(command)
        if question is not None:
            answer = await publisher.send(
                question, channel=planned.channel, account=planned.account, actor=actor, dry_run=True
            )
            if isinstance(answer.body, CommandRejected) and answer.body.rejection == ApiRequestUrlRefused.__name__:
                return command, answer.body
    return None


def has_addresses(planned: CommandPlan) -> bool:
    """Whether there is something that `ask_addresses` would ask."""
    return any(_question_of_address(command) is not None for command in planned.commands)


def _question_of_address(command: CommandData) -> CommandData | None:
    """The command whose dry run judges the API Request URL of this one, whatever those before it would change."""
    match command:
        case OpenBusinessSystem(system=system, api_request_url=url):
            return RefreshSignature(system=system, api_request_url=url)
        case EditBusinessSystem(api_request_url=str()):
            return command
        case _:
            return None


def expected_version(seen: int, resource: str, made: Sequence[tuple[str, int]]) -> int:
    """The version to expect: the one that was seen, or, where an earlier command of the same plan changed something
    on the resource's path, the one that it made. Anybody else's change on the path is then still noticed."""
    return max([seen, *(version for earlier, version in made if on_same_path(earlier, resource))])


def describe_rejection(command: CommandData, rejected: CommandRejected, seen: int) -> str:
    """The sentence for a refused command; a conflict with both versions."""
    what = f"{type(command).__name__} was refused ({rejected.rejection}): {rejected.message}"
    if rejected.rejection == "VersionConflict":
        return f"{what} Seen was version {seen}; the channel is at version {rejected.version} now."
    return what
