"""Asking for the routes of messages, and waiting for the decisions.

    async with Router("127.0.0.1:9092", source="my-sender", account="acme") as router:
        routing = await router.route(RouteMessage(recipient="+911234567890", category="authentication"), channel="ch-1")

The same message id again gets the same decision, and reserves nothing more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from .. import topics
from ..envelope import NotificationEnvelope
from ..ids import new_id
from ..message import CommandData
from ..message_routing import DecisionRepeated, MessageRouted, RouteMessage, RoutingRefused
from ..message_status import ReportStatus
from ..rates import RATE_BOOK, ApplyRateBook
from ..scheduling_resource import ReportSchedulingResource
from .answer_reader import AnswerReader
from .client import DEFAULT_TIMEOUT_S, Client, Record
from .command_envelope import REQUEST_TOPICS
from .errors import OutcomeTimeout, PublisherError
from .log import log

__all__ = ["OutcomeTimeout", "PublisherError", "Router", "Routing"]


@dataclass(frozen=True, slots=True)
class Routing:
    """The answer to a `RouteMessage`. ``repeated``: the message was decided before, with this decision."""

    message: str
    decision: MessageRouted | RoutingRefused
    repeated: bool


class Router(Client):
    """An async context manager; safe to use from many tasks at once. ``security`` are aiokafka's keyword arguments.

    ``account`` and ``actor`` are defaults that each call can override.
    """

    _largest_record = topics.LARGEST_RATE_BOOK_BYTES

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        source: str,
        account: str | None = None,
        actor: str | None = None,
        **security: Any,
    ) -> None:
        super().__init__(bootstrap_servers, source, account, actor, security)

    def _new_reader(self) -> AnswerReader[_PendingDecision]:
        return _DecisionReader(topics.MESSAGE_REQUESTS, topics.MESSAGE_DECISIONS, self._options)

    async def route(
        self,
        message: RouteMessage,
        *,
        channel: str,
        message_id: str | None = None,
        account: str | None = None,
        actor: str | None = None,
        traceparent: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Routing:
        """Publishes a request and waits for its decision. Choose a ``message_id`` to be able to ask again.

        Raises `OutcomeTimeout` (the message may yet be decided: ask again with the same id), `PublisherError`, and
        ValueError on an invalid channel, account or message id.
        """
        message_id, account = message_id or new_id(), self._resolve_account(account)
        pending = _PendingDecision(account, channel, message_id)
        record = self._record(
            message,
            channel=channel,
            command_id=message_id,
            account=account,
            actor=actor,
            traceparent=traceparent,
            correlation_id=pending.correlation_id,
        )
        routing: Routing = await self._request(record, pending, message_id, timeout)
        return routing

    async def report_status(
        self,
        status: ReportStatus,
        *,
        channel: str,
        report_id: str | None = None,
        account: str | None = None,
        actor: str | None = None,
    ) -> str:
        """Publishes a status; returns the report's id once the broker has it. A status twice counts once, and one that
        comes before its message's decision waits for it. Raises `PublisherError` and ValueError."""
        report_id, account = report_id or new_id(), self._resolve_account(account)
        await self._append(self._record(status, channel=channel, command_id=report_id, account=account, actor=actor))
        return report_id

    async def report_resource(self, report: ReportSchedulingResource, *, account: str | None = None) -> None:
        """Publishes how many units a scheduling resource has left. Raises `PublisherError` and ValueError."""
        account = self._resolve_account(account)
        await self._append(self._record(report, channel=report.resource, command_id=new_id(), account=account))

    async def withdraw_resource(self, resource: str) -> None:
        """Withdraws a scheduling resource until it is reported again. Raises `PublisherError`."""
        await self._append(self._on_partition_of(topics.SCHEDULING_RESOURCES.name, resource, None))

    async def apply_rate_book(
        self, book: ApplyRateBook, *, account: str | None = None, actor: str | None = None
    ) -> None:
        """Publishes a rate book; where its version is taken, it gets the next one. Raises `PublisherError`."""
        account = self._resolve_account(account)
        await self._append(self._record(book, channel=RATE_BOOK, command_id=new_id(), account=account, actor=actor))

    def _record(self, request: CommandData, *, channel: str, **attributes: Any) -> Record:
        kind, data = type(request).__name__, request.model_dump(mode="json", exclude_unset=True)
        value = self._envelope(kind, data, channel=channel, **attributes)
        return self._on_partition_of(REQUEST_TOPICS[kind].name, channel, value)


class _PendingDecision:
    """A future for one decision. The correlation id is this call's own: the message's id may be in use elsewhere, even
    for another content, and contents cannot be compared by a digest, because the router's are keyed."""

    def __init__(self, account: str, channel: str, message_id: str) -> None:
        self.account = account
        self.key = (channel.encode(), message_id.encode())
        self.correlation_id = new_id()
        self.answer: asyncio.Future[Routing] = asyncio.get_running_loop().create_future()


class _DecisionReader(AnswerReader[_PendingDecision]):
    def resolve(self, record: Any, candidates: list[_PendingDecision]) -> None:
        try:
            envelope = NotificationEnvelope.model_validate_json(record.value)
            decision, repeated = _decision_of(envelope)
        except ValidationError:
            log.error("the notice at %s/%d/%d cannot be read", record.topic, record.partition, record.offset)
            return
        if decision is None:
            return
        for pending in candidates:
            # An envelope that breaks the contract is refused under the message's id alone.
            ours = envelope.correlationid in (pending.correlation_id, envelope.causationid)
            if ours and pending.account == envelope.accountid and not pending.answer.done():
                pending.answer.set_result(Routing(envelope.causationid, decision, repeated))
                return


def _decision_of(envelope: NotificationEnvelope) -> tuple[MessageRouted | RoutingRefused | None, bool]:
    """The decision in a notice, and whether it was made before; None in a notice of another type."""
    match envelope.body():
        case MessageRouted() | RoutingRefused() as decision:
            return decision, False
        case DecisionRepeated() as before:
            return before.routed or before.refused, True
    return None, False
