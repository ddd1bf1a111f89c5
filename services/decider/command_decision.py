"""The decision on one valid command, from the state of its channel to the events of the transaction."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import structlog

from contracts import topics
from contracts.envelope import CONTENT_TYPE, GENESIS, CommandEnvelope
from contracts.ids import uuid7
from contracts.message import rfc3339
from contracts.message_types import Command
from contracts.rejection import Rejection
from contracts.rejections import ApiRequestUrlRefused
from services.decider.config import DeciderConfig
from services.decider.encoding import (
    EventAttributes,
    SealedSecret,
    accepted_json,
    data_json,
    event_json,
    rejection_json,
    would_append_json,
)
from services.decider.partition_state import Fork
from services.decider.random_bytes import RandomBytes
from services.decider.signature_secrets import seal_secret, secret_changes
from services.domain.decide import decide
from services.domain.decision import Context, Decision, EventMetadata
from services.domain.evolve import evolve
from services.domain.json_schema import Verdict
from services.domain.url_policy import url_refusal
from services.domain.webhook_signature import SECRET_BYTES
from services.infrastructure.transactions import OutgoingRecord

log = structlog.stdlib.get_logger(__name__)

_EVENT_HEADERS = [CONTENT_TYPE]


class CheckNeeded(Exception):
    """The decision needs to know whether data satisfies a schema, which takes too long to find out here."""

    def __init__(self, schema: dict[str, Any], data: object) -> None:
        super().__init__()
        self.schema, self.data = schema, data


class CommandDecider:
    """Decides commands on a fork, one after the other; ``records`` gets their events. ``now`` is Unix milliseconds."""

    def __init__(
        self, config: DeciderConfig, fork: Fork, now: int, random: RandomBytes, records: list[OutgoingRecord]
    ) -> None:
        self._config = config
        self._fork = fork
        self._now = now
        self._time = rfc3339(now)
        self._random = random
        self._records = records

    def decide(self, envelope: CommandEnvelope, command: Command, shared: bytes) -> bytes:
        """The outcome's data as JSON. Whatever can raise, `CheckNeeded` too, comes before the first change of the
        fork."""
        channel, fork, config = envelope.subject, self._fork, self._config
        state = fork.channel(channel)
        now = self._now if state.channel is None else max(self._now, state.channel.time)
        secret = self._random.next(SECRET_BYTES)
        who = envelope.actor, envelope.actorowner
        context = Context(channel, envelope.accountid, now, secret, config.allowlist, self._check_data, *who)
        decision = decide(state, command, context, envelope.expectedversion)
        if not isinstance(decision, Decision):
            if isinstance(decision, ApiRequestUrlRefused):
                self._log_refused_url(envelope, command)
            return rejection_json(decision, self.version(envelope))
        request = decision.seal_request
        seal = None if request is None else seal_secret(fork, config.keyring, channel, decision, request)
        if isinstance(seal, Rejection):
            return rejection_json(seal, self.version(envelope))
        if envelope.dryrun:
            return would_append_json(self.version(envelope), decision.events, decision.notices)
        secrets = secret_changes(config.keyring, channel, decision)
        version, head = (0, GENESIS) if state.channel is None else (state.channel.version, state.channel.head)
        ids: list[str] = []
        values: list[bytes] = []
        time = self._time if now == self._now else rfc3339(now)
        for event in decision.events:
            ids.append(uuid7(now, self._random.next(10)))
            version += 1
            attributes = EventAttributes(version, fork.partitionsequence + len(ids), head, event.resource)
            value = event_json(ids[-1], type(event).__name__, time, shared, attributes, data_json(event))
            values.append(value)
            head = sha256(value).hexdigest()
            state = evolve(state, event, envelope.accountid, EventMetadata(version, now, head))
        sealed = None if request is None or seal is None else SealedSecret(request.key_id, seal)
        data = accepted_json(version, ids, sealed, decision.notices)
        if values:
            fork.channels[channel] = state
            fork.partitionsequence += len(values)
            fork.signatures.update(secrets)
            key = channel.encode()
            for value in values:
                self._records.append(OutgoingRecord(topics.EVENTS.name, config.partition, key, value, _EVENT_HEADERS))
        return data

    def _log_refused_url(self, envelope: CommandEnvelope, command: Command) -> None:
        """For the operator: the account does not learn why a target is refused."""
        url = getattr(command, "api_request_url", None) or ""
        refusal = url_refusal(url, self._config.allowlist, envelope.accountid)
        if refusal is not None and refusal.detail != refusal.clause:
            log.info("URL refused", account=envelope.accountid, channel=envelope.subject, detail=refusal.detail)

    def _check_data(self, schema: dict[str, Any], data: object) -> Verdict:
        verdict = self._config.schemas.verdict_now(schema, data)
        if verdict is None:
            raise CheckNeeded(schema, data)
        return verdict

    def version(self, envelope: CommandEnvelope) -> int:
        """The channel's current version; 0 where it is unknown, another account's, or its record cannot be read."""
        try:
            channel = self._fork.channel(envelope.subject).channel
        except (ValueError, LookupError):  # each of its commands fails by itself, so the partition goes on
            return 0
        return 0 if channel is None or channel.account != envelope.accountid else channel.version
