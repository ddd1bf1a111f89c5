"""Sending a plan's commands, each with the version that was seen, so that nobody's change in between is overwritten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from contracts.business_system import EditBusinessSystem, OpenBusinessSystem
from contracts.commands import Command
from contracts.message import CommandData
from contracts.outcome import CommandRejected
from contracts.publisher import Outcome, Publisher
from contracts.rejections import ApiRequestUrlRefused
from contracts.signature import RefreshSignature
from services.domain.resources import resource_of_command


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be sent to one channel, and the version of it that was read."""

    channel: str
    account: str
    seen: int
    commands: Sequence[CommandData]


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """``outcomes`` are of the commands that were accepted, in order; ``refused`` is what stopped it."""

    planned: Planned
    outcomes: tuple[Outcome, ...]
    refused: tuple[CommandData, CommandRejected] | None

    @property
    def version(self) -> int:
        """The channel's version after the last accepted command, or as it was seen."""
        return self.outcomes[-1].version or self.planned.seen if self.outcomes else self.planned.seen


async def carry_out(
    publisher: Publisher,
    planned: Planned,
    *,
    actor: str,
    correlation_id: str,
    each: Callable[[CommandData, Outcome], None] = lambda _, __: None,
) -> CarriedOut:
    """Sends one after the other and stops at the first that is rejected. Raises what `Publisher.send` raises.

    Where an API Request URL may lead only the decider knows, so it is asked first, by dry runs: a plan must not stop
    half-way, with what it replaces deleted already, for a reason that could be known.
    """
    for command in planned.commands:
        question = _question_of_address(command)
        if question is not None:
            answer = await publisher.send(
                question, channel=planned.channel, account=planned.account, actor=actor, dry_run=True
            )
            if isinstance(answer.body, CommandRejected) and answer.body.rejection == ApiRequestUrlRefused.__name__:
                return CarriedOut(planned, (), (command, answer.body))
    made: list[tuple[str, int]] = []
    outcomes: list[Outcome] = []
    for command in planned.commands:
        resource = resource_of_command(cast("Command", command))
        outcome = await publisher.send(
            command,
            channel=planned.channel,
            account=planned.account,
            actor=actor,
            correlation_id=correlation_id,
            expected_version=expected_version(planned.seen, resource, made),
        )
        each(command, outcome)
        if isinstance(outcome.body, CommandRejected):
            return CarriedOut(planned, tuple(outcomes), (command, outcome.body))
        outcomes.append(outcome)
        made.append((resource, outcome.body.version))
    return CarriedOut(planned, tuple(outcomes), None)


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
    return max([seen, *(version for earlier, version in made if _on_one_path(earlier, resource))])


def _on_one_path(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def refusal(command: CommandData, rejected: CommandRejected, seen: int) -> str:
    """The sentence for a refused command; a conflict with both versions."""
    what = f"{type(command).__name__} was refused ({rejected.rejection}): {rejected.message}"
    if rejected.rejection == "VersionConflict":
        return f"{what} Seen was version {seen}; the channel is at version {rejected.version} now."
    return what
