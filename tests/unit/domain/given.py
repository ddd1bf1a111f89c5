"""A rule as a sentence: ``given(what happened).when(a command).then(its events, or its rejection)``.

Key ids count ``key-1``, ``key-2`` … and the n-th secret is `secret(n)`, so that events can be written down.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import cast

from contracts.message import CommandData, EventData, rfc3339, unix_milliseconds
from contracts.message_types import Command, Event
from contracts.rejection import Rejection
from services.domain.decide import decide
from services.domain.decision import Context, Decision, DeletedSecret, EventMetadata
from services.domain.evolve import evolve
from services.domain.state import ChannelState
from services.domain.url_policy import Allowlist
from services.domain.webhook_signature import fingerprint

CHANNEL = "ch-1"
ACCOUNT = "acme"
START = unix_milliseconds("2026-11-22T08:00:00Z")
EMPTY_ALLOWLIST = Allowlist.parse((), never=("127.0.0.1:9092",))


@dataclass(frozen=True)
class Later:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class By:
    """A command that names its actor, and perhaps the person whose key that is."""

    actor: str
    command: CommandData
    owner: str | None = None


Step = CommandData | EventData | Later | By


def at(seconds: float = 0) -> str:
    """The time ``seconds`` after the start, as events have it."""
    return rfc3339(START + round(seconds * 1000))


def secret(number: int) -> bytes:
    return bytes([number % 256]) * 32


def fingerprint_of(number: int) -> str:
    """The fingerprint of the n-th secret."""
    return fingerprint(secret(number))


@dataclass
class Story:
    """A channel's history, decided and folded as the decider does it."""

    state: ChannelState = field(default_factory=ChannelState)
    now: int = START
    allowlist: Allowlist = EMPTY_ALLOWLIST

    def decide(
        self,
        command: CommandData,
        *,
        account: str = ACCOUNT,
        expected: int | None = None,
        actor: str | None = None,
        owner: str | None = None,
    ) -> Decision | Rejection:
        issued = 0 if self.state.channel is None else self.state.channel.signatures_issued
        context = Context(CHANNEL, account, self.now, secret(issued + 1), self.allowlist, actor=actor, owner=owner)
        return decide(self.state, cast("Command", command), context, expected)

    def happen(self, event: EventData, account: str = ACCOUNT) -> None:
        version = 1 if self.state.channel is None else self.state.channel.version + 1
        mark = EventMetadata(version, self.now, sha256(event.model_dump_json().encode()).hexdigest())
        self.state = evolve(self.state, cast("Event", event), account, mark)

    def step(self, step: Step) -> None:
        if isinstance(step, Later):
            self.now += round(step.seconds * 1000)
        elif isinstance(step, EventData):
            self.happen(step)
        else:
            if isinstance(step, By):
                decision = self.decide(step.command, actor=step.actor, owner=step.owner)
            else:
                decision = self.decide(step)
            assert isinstance(decision, Decision), f"given {step!r}, but it is rejected: {decision!r}"
            for event in decision.events:
                self.happen(event)


@dataclass(frozen=True)
class Scenario:
    """One rule: the history, the command, and the expected result."""

    history: tuple[Step, ...]
    command: CommandData
    account: str = ACCOUNT
    expected: int | None = None
    allowlist: Allowlist = EMPTY_ALLOWLIST
    outcome: tuple[EventData, ...] | Rejection = ()
    deleted: tuple[DeletedSecret, ...] | None = None
    actor: str | None = None
    owner: str | None = None

    def then(self, *outcome: EventData | Rejection, deletes: tuple[tuple[str, str], ...] | None = None) -> Scenario:
        """Exactly these events, in this order; or this rejection; or, with nothing, acceptance without an event.

        ``deletes`` names, where it is given, every secret (system, key id) that is deleted.
        """
        rejections = [one for one in outcome if isinstance(one, Rejection)]
        events = tuple(one for one in outcome if isinstance(one, EventData))
        assert not rejections or len(outcome) == 1
        return replace(
            self,
            outcome=rejections[0] if rejections else events,
            deleted=None if deletes is None else tuple(DeletedSecret(*one) for one in deletes),
        )

    def decided(self) -> Decision | Rejection:
        story = Story(allowlist=self.allowlist)
        for step in self.history:
            story.step(step)
        return story.decide(
            self.command, account=self.account, expected=self.expected, actor=self.actor, owner=self.owner
        )

    def check(self) -> None:
        decided = self.decided()
        found = decided.events if isinstance(decided, Decision) else decided
        assert found == self.outcome
        if isinstance(decided, Decision):
            # Equal values are not enough: an event's JSON holds only what was set.
            assert [one.model_dump_json(exclude_unset=True) for one in decided.events] == [
                one.model_dump_json(exclude_unset=True) for one in cast("tuple[EventData, ...]", self.outcome)
            ]
            if self.deleted is not None:
                assert decided.deleted_secrets == self.deleted
        else:
            assert decided.message.endswith(".")


@dataclass(frozen=True)
class Given:
    history: tuple[Step, ...]

    def when(
        self,
        command: CommandData | By,
        *,
        by: str = ACCOUNT,
        expecting: int | None = None,
        allowing: Allowlist = EMPTY_ALLOWLIST,
    ) -> Scenario:
        """``by`` an account, ``expecting`` a version, and the operator's allowlist."""
        if isinstance(command, By):
            scenario = Scenario(self.history, command.command, by, expecting, allowing)
            return replace(scenario, actor=command.actor, owner=command.owner)
        return Scenario(self.history, command, by, expecting, allowing)


def given(*history: Step) -> Given:
    """What happened before, as events, or as commands that must be accepted."""
    return Given(history)
