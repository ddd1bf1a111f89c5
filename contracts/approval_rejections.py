"""Why a command that needs a second person, or a decision about a proposed change, is refused."""

from __future__ import annotations

from .rejection import Rejection


class ApprovalRequired(Rejection):
    sentence = (
        "On this channel a second person approves changes of {sections}; send the command with ProposeChange instead."
    )
    sections: list[str]


class ActorMissing(Rejection):
    sentence = "A change is proposed and approved by two people, so the command must name its actor."


class ChangeUnknown(Rejection):
    sentence = "The channel has no proposed change {change!r}; the list of its proposed changes has the open ones."
    change: str


class ChangeAlreadyProposed(Rejection):
    sentence = "Change {change!r} was proposed already; propose this one with an id of its own, and replace that one."
    change: str


class TooManyProposedChanges(Rejection):
    sentence = "The channel has {limit} open proposed changes, which is the limit; approve or decline one first."
    limit: int


class AuthorCannotApprove(Rejection):
    sentence = "Change {change!r} was proposed by {author!r}, who cannot approve it too; another person does."
    change: str
    author: str


class ReplacedByAnother(Rejection):
    sentence = "Change {change!r} was proposed by {author!r}, who alone replaces it; decline it instead."
    change: str
    author: str


class ChangeDecided(Rejection):
    """``state`` is approved, applied, declined or voided."""

    sentence = "Change {change!r} was {state} already; its history says when and by whom."
    change: str
    state: str


class ChangeNotApproved(Rejection):
    sentence = "Change {change!r} is not approved yet; it is carried out after another person approved it."
    change: str


class InstantHasPassed(Rejection):
    sentence = "The change was to be carried out at {at}, which has passed; propose it for a later instant."
    at: str


class ChangeNotDue(Rejection):
    sentence = "Change {change!r} is carried out at {at}, and not before."
    change: str
    at: str
