"""Every reason for which a command is refused: a stable name, a sentence that says what would be right, and its facts.

A rejection is no failure. The class name is the ``rejection`` of the outcome, the fields stand beside it.
"""

from __future__ import annotations

from . import approval_rejections as approval_rejections  # for the list at the end
from .rejection import Rejection

NAMED_TEMPLATES_LIMIT = 100
"""An answer is remembered with its command, so it must not grow with what a channel may hold."""


class InvalidCommand(Rejection):
    """The envelope or the data breaks the contract; the id can be used again."""

    sentence = "{problem}"
    problem: str


class CommandIdReused(Rejection):
    sentence = (
        "Command id {command!r} was used on this channel for another type or other data; "
        "a new command needs an id of its own."
    )
    command: str


class TooManyCommands(Rejection):
    """The command is not remembered: the same id can be used again later."""

    sentence = (
        "Account {account!r} has sent {limit:,} commands to this partition within 24 hours, which is the limit; "
        "send the command again later, or ask the operator to raise the limit."
    )
    account: str
    limit: int


class DecisionFailed(Rejection):
    """Our fault: the decision raised. The command is on the dead-letter topic besides."""

    sentence = (
        "The command could not be decided because of a fault on our side; nothing was changed, and it is kept for "
        "inspection."
    )


class DecisionTimedOut(Rejection):
    """Recorded like any other rejection, so it is not tried again."""

    sentence = (
        "The decision took more than {limit_ms} ms, or too much memory; simplify the intent's schema or its data."
    )
    limit_ms: int


class ChannelUnknown(Rejection):
    """Also what another account's channel looks like."""

    sentence = "The account has no channel {channel!r}; the platform registers it with RegisterChannel."
    channel: str


class ChannelAlreadyRegistered(Rejection):
    sentence = "Channel {channel!r} is registered already; EditChannel changes its name and provider."
    channel: str


class ChannelIsRetired(Rejection):
    sentence = "Channel {channel!r} is retired: it takes no commands any more, and is never registered again."
    channel: str


class EnterpriseAuthenticationMissing(Rejection):
    sentence = "Account {account!r} has not completed enterprise authentication; it can own a channel only after that."
    account: str


class VersionConflict(Rejection):
    """``version`` beside it in the outcome is the channel's version now."""

    sentence = (
        "{resource!r} changed at version {changed_at}, after version {expected} that was expected; read it again, "
        "then decide."
    )
    resource: str
    expected: int
    changed_at: int


class VersionYetToCome(Rejection):
    sentence = (
        "Version {expected} was expected, but the channel is at version {current}; expect a version that was seen."
    )
    expected: int
    current: int


class BusinessSystemUnknown(Rejection):
    sentence = "No business system {system!r} is open on this channel; open it with OpenBusinessSystem."
    system: str


class BusinessSystemAlreadyOpen(Rejection):
    sentence = "Business system {system!r} is open already; EditBusinessSystem changes it."
    system: str


class BusinessSystemNameTaken(Rejection):
    sentence = "Business system {system!r} of this channel has the name {name!r} already; choose another System Name."
    name: str
    system: str


class TooManyBusinessSystems(Rejection):
    sentence = "The channel has {limit} business systems, which is the limit; delete one first."
    limit: int


class BusinessSystemTooLarge(Rejection):
    sentence = (
        "Business system {system!r} with all its intents would be {size:,} bytes; at most {limit:,} are allowed. "
        "Shorten default data or schemas, or use a second system."
    )
    system: str
    size: int
    limit: int


class BusinessSystemInUse(Rejection):
    """``more``: so many templates besides those that are named, the first `NAMED_TEMPLATES_LIMIT` in order."""

    sentence = (
        "Templates refer to intents of business system {system!r}: {templates}. Release them, or delete with force."
    )
    system: str
    templates: list[str]
    more: int = 0


class ApiRequestUrlRefused(Rejection):
    sentence = "The API Request URL cannot be used: {reason}."
    reason: str


class SignatureNeedsApiRequestUrl(Rejection):
    sentence = (
        "Business system {system!r} is not open yet: fill in api_request_url, then a signature can be obtained for it."
    )
    system: str


class ApiRequestUrlSettled(Rejection):
    sentence = (
        "Business system {system!r} is open with another API Request URL; change it with EditBusinessSystem, or "
        "leave it out."
    )
    system: str


class GracePeriodRunning(Rejection):
    sentence = (
        "Signature {key_id!r} of business system {system!r} is still in its grace period, until {valid_until}; "
        "wait for its end, or refresh with force, which revokes it now."
    )
    system: str
    key_id: str
    valid_until: str


class SignatureUnknown(Rejection):
    sentence = "Business system {system!r} has no valid signature {key_id!r}; its settings list the valid ones."
    system: str
    key_id: str


class SignatureIsCurrent(Rejection):
    sentence = (
        "Signature {key_id!r} is the current one of business system {system!r}, which could not be called without it; "
        "refresh first (grace_seconds 0 revokes the old one at once)."
    )
    system: str
    key_id: str


class SealKeyRefused(Rejection):
    sentence = "seal_to is no usable X25519 public key; make a fresh key pair and send its public half."


class IntentNeedsBusinessSystem(Rejection):
    sentence = (
        "An intent needs a business system, and no {system!r} is open on this channel; open it with OpenBusinessSystem."
    )
    system: str


class IntentUnknown(Rejection):
    sentence = "Business system {system!r} has no intent {code!r}; add it with AddIntent."
    system: str
    code: str


class IntentAlreadyAdded(Rejection):
    sentence = "Business system {system!r} has an intent {code!r} already; EditIntent changes it."
    system: str
    code: str


class TooManyIntents(Rejection):
    sentence = "Business system {system!r} has {limit} intents, which is the limit; delete one first."
    system: str
    limit: int


class IntentInUse(Rejection):
    """``more``: so many templates besides those that are named, the first `NAMED_TEMPLATES_LIMIT` in order."""

    sentence = (
        "Templates refer to intent {code!r} of business system {system!r}: {templates}. Release them, or use force."
    )
    system: str
    code: str
    templates: list[str]
    more: int = 0


class IntentSchemaInvalid(Rejection):
    sentence = "The schema of intent {code!r} is no usable JSON Schema (2020-12): {reason}."
    code: str
    reason: str


class DefaultDataBreaksSchema(Rejection):
    sentence = "The default data of intent {code!r} does not satisfy its schema: {reason}."
    code: str
    reason: str


class TemplateRefersAlready(Rejection):
    sentence = "Template {template!r} refers to intent {code!r} of business system {system!r} already."
    system: str
    code: str
    template: str


class TemplateDoesNotRefer(Rejection):
    sentence = "Template {template!r} does not refer to intent {code!r} of business system {system!r}."
    system: str
    code: str
    template: str


class OtpSchedulingNeedsWhatsApp(Rejection):
    sentence = "OTP delivery scheduling is for whatsapp channels only; this one is a {channel_type} channel."
    channel_type: str


class OtpSchedulingNeedsCountries(Rejection):
    sentence = "OTP delivery scheduling can be on only for at least one country; choose countries, or save it off."


class InternationalRatesNotAcknowledged(Rejection):
    sentence = (
        "Sending from own numbers to {countries} may incur international authentication rates; "
        "set international_rates_acknowledged to true if that is meant."
    )
    countries: list[str]


class SpendGuardNeedsLimit(Rejection):
    sentence = (
        "A spend guard of mode {mode!r} needs a limit; give max_rate or daily_messages_per_country, or save mode 'off'."
    )
    mode: str


def rejection_named(name: str) -> type[Rejection] | None:
    """The rejection class of that name; None for one that a newer decider knows."""
    return REJECTIONS.get(name)


REJECTIONS: dict[str, type[Rejection]] = {kind.__name__: kind for kind in Rejection.__subclasses__()}
