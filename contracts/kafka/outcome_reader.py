"""Reads the outcomes, and resolves the futures of those who wait for them.

Several commands can have one id at the same time (of another account, or by mistake with other data): the header
``digest`` tells them apart.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from .. import topics
from ..envelope import InvalidEnvelope, UndecodableEnvelope, content_digest, read_command
from ..outcome import CommandAccepted, CommandRejected, OutcomeEnvelope
from ..sealing import SealKey
from .answer_reader import AnswerReader
from .log import log


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a command. ``repeated``: the command was decided before, with this outcome.

    ``secret`` is decrypted with the publisher's own key, and not part of the repr.
    """

    command_id: str
    body: CommandAccepted | CommandRejected
    repeated: bool
    secret: str | None = field(default=None, repr=False)

    @property
    def accepted(self) -> bool:
        return isinstance(self.body, CommandAccepted)

    @property
    def version(self) -> int | None:
        return self.body.version


class PendingOutcome:
    """A future for one outcome.

    ``value`` is the command as it is published, by which it is told from another with the same id; None where the id is
    new, so that nobody has used it.
    """

    def __init__(self, account: str, channel: str, command_id: str, value: bytes | None) -> None:
        self.account = account
        self.key = (channel.encode(), command_id.encode())
        self.answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._value = value
        self._digest: bytes | None = None

    def is_of(self, digest: bytes) -> bool:
        """Whether an outcome with this digest is that of this command."""
        if self._value is None:
            return True
        if self._digest is None:
            self._digest = _digest_of(self._value)
        return digest == self._digest


def _digest_of(value: bytes) -> bytes:
    """Of a command as the decider reads it; empty for an invalid command."""
    try:
        command = read_command(value)
    except (InvalidEnvelope, UndecodableEnvelope):
        return b""
    return content_digest(command.type, command.data, dry_run=bool(command.dryrun))


class OutcomeReader(AnswerReader[PendingOutcome]):
    """Of the commands. ``seal_key`` opens the secrets in their outcomes."""

    def __init__(self, seal_key: SealKey | None, options: dict[str, Any]) -> None:
        super().__init__(topics.COMMANDS, topics.OUTCOMES, options)
        self.seal_key = seal_key

    def resolve(self, record: Any, candidates: list[PendingOutcome]) -> None:
        try:
            envelope = OutcomeEnvelope.model_validate_json(record.value)
            body = envelope.body()
        except ValidationError:
            log.error("the outcome at %s/%d/%d cannot be read", record.topic, record.partition, record.offset)
            return
        outcome = Outcome(envelope.causationid, body, envelope.repeated, self._unsealed(body))
        digest = dict(record.headers).get("digest")
        for pending in candidates:
            if pending.answer.done() or pending.account != envelope.accountid:
                continue
            if digest is None:
                # An undecided command: invalid, or its id was reused. Outcomes come in the order of the commands.
                pending.answer.set_result(outcome)
                return
            if pending.is_of(digest):
                pending.answer.set_result(outcome)

    def _unsealed(self, body: CommandAccepted | CommandRejected) -> str | None:
        if self.seal_key is None or not isinstance(body, CommandAccepted) or body.sealed is None:
            return None
        try:
            return self.seal_key.open(body.sealed)
        except ValueError:
            return None  # sealed for another key
