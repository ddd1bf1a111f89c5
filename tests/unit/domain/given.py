"""A rule as a sentence: ``given(what happened).when(a command).then(its events, or its rejection)``.

Key ids count ``key-1``, ``key-2`` … and the n-th secret drawn is `secret(n)`, so that events can be written down.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import cast

from contracts.commands import Command, Event
from contracts.message import CommandData, EventData, milliseconds_of, rfc3339
from contracts.rejections import Rejection
from services.domain.address import Allowances
from services.domain.decide import decide
from services.domain.decision import Context, Decision, DeletedSecret, Mark
from services.domain.evolve import evolve
from services.domain.signing import fingerprint
from services.domain.state import ChannelState

CHANNEL = "ch-1"
ACCOUNT = "acme"
START = milliseconds_of("2026-11-22T08:00:00Z")
NO_ALLOWANCES = Allowances.parse((), never=("127.0.0.1:9092",))


@dataclass(frozen=True)
class Later:
    """So much time passes."""

    seconds: float


def at(seconds: float = 0) -> str:
    """The time so many seconds after the start, as events hold it."""
    return rfc3339(START + round(seconds * 1000))


def secret(number: int) -> bytes:
    return bytes([number % 256]) * 32


def print_of(number: int) -> str:
    """The fingerprint of the n-th secret."""
    return fingerprint(secret(number))


@dataclass
class Story:
    """A channel's life so far, decided and folded as the decider does it."""

    state: ChannelState = field(default_factory=ChannelState)
    now: int = START
    allowances: Allowances = NO_ALLOWANCES

    def decide(
        self, command: CommandData, *, account: str = ACCOUNT, expected: int | None = None
    ) -> Decision | Rejection:
        drawn = 0 if self.state.channel is None else self.state.channel.signatures_drawn
        context = Context(CHANNEL, account, self.now, secret(drawn + 1), self.allowances)
        return decide(self.state, cast("Command", command), context, expected)

    def happen(self, event: EventData, account: str = ACCOUNT) -> None:
        version = 1 if self.state.channel is None else self.state.channel.version + 1
        mark = Mark(version, self.now, sha256(event.model_dump_json().encode()).hexdigest())
        self.state = evolve(self.state, cast("Event", event), account, mark)

    def step(self, step: CommandData | EventData | Later) -> None:
        if isinstance(step, Later):
            self.now += round(step.seconds * 1000)
        elif isinstance(step, EventData):
            self.happen(step)
        else:
            decision = self.decide(step)
            assert isinstance(decision, Decision), f"given {step!r}, but it is rejected: {decision!r}"
            for event in decision.events:
                self.happen(event)


@dataclass(frozen=True)
class Scenario:
    """One rule: what happened, what is asked for, and what must come of it."""

    history: tuple[CommandData | EventData | Later, ...]
    command: CommandData
    account: str = ACCOUNT
    expected: int | None = None
    allowances: Allowances = NO_ALLOWANCES
    outcome: tuple[EventData, ...] | Rejection = ()
    deleted: tuple[DeletedSecret, ...] | None = None

    def then(self, *outcome: EventData | Rejection, deletes: tuple[tuple[str, str], ...] | None = None) -> Scenario:
        """Exactly these events, in this order; or this rejection; or, with nothing, acceptance without an event.

        ``deletes`` names, where it is given, every secret (system, key id) that goes with it.
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
        story = Story(allowances=self.allowances)
        for step in self.history:
            story.step(step)
        return story.decide(self.command, account=self.account, expected=self.expected)

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
                assert decided.deleted == self.deleted
        else:
            assert decided.message.endswith(".")


@dataclass(frozen=True)
class Given:
    history: tuple[CommandData | EventData | Later, ...]

    def when(
        self,
        command: CommandData,
        *,
        by: str = ACCOUNT,
        expecting: int | None = None,
        allowing: Allowances = NO_ALLOWANCES,
    ) -> Scenario:
        """``by`` an account, ``expecting`` a version, the operator ``allowing`` some private places."""
        return Scenario(self.history, command, by, expecting, allowing)


def given(*history: CommandData | EventData | Later) -> Given:
    """What happened before, as events, or as commands that must be accepted."""
    return Given(history)
