"""The JSON Schema of every message, envelope included, from the models: what publishers write and subscribers read."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from . import topics
from .access_log import ACCESS_RECORDS, AccessEnvelope
from .envelope import CommandEnvelope, EventEnvelope, NotificationEnvelope
from .invocation import IntentInvoked, InvocationFailed, InvokeIntent, MakeTestCall, TriggerIntent
from .message_routing import RouteMessage
from .message_status import ReportStatus
from .message_types import COMMANDS, EVENTS
from .notices import MESSAGE_NOTICES
from .outcome import CommandAccepted, CommandRejected, OutcomeEnvelope
from .rates import ApplyRateBook
from .rejections import REJECTIONS
from .scheduling_resource import ReportSchedulingResource
from .usage import MessageCharged

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ON: dict[str, tuple[type[BaseModel], tuple[type[BaseModel], ...]]] = {
    topics.COMMANDS.name: (CommandEnvelope, tuple(COMMANDS.values())),
    topics.EVENTS.name: (EventEnvelope, tuple(EVENTS.values())),
    topics.OUTCOMES.name: (OutcomeEnvelope, (CommandAccepted, CommandRejected)),
    topics.INVOCATION_REQUESTS.name: (CommandEnvelope, (InvokeIntent, MakeTestCall, TriggerIntent)),
    topics.INVOCATIONS.name: (NotificationEnvelope, (IntentInvoked, InvocationFailed)),
    topics.MESSAGE_REQUESTS.name: (CommandEnvelope, (RouteMessage, ReportStatus)),
    topics.MESSAGE_DECISIONS.name: (NotificationEnvelope, MESSAGE_NOTICES),
    topics.SCHEDULING_RESOURCES.name: (CommandEnvelope, (ReportSchedulingResource,)),
    topics.RATES.name: (CommandEnvelope, (ApplyRateBook,)),
    topics.USAGE.name: (NotificationEnvelope, (MessageCharged,)),
    topics.ACCESS_LOG.name: (AccessEnvelope, tuple(ACCESS_RECORDS.values())),
}
REJECTED = f"{topics.OUTCOMES.name}, rejections"
"""The key of the rejections in `json_schemas`: their own facts, beside ``rejection``, ``message`` and ``version``."""

PUBLISHED_TO_US = (
    topics.COMMANDS.name,
    topics.INVOCATION_REQUESTS.name,
    topics.MESSAGE_REQUESTS.name,
    topics.SCHEDULING_RESOURCES.name,
    topics.RATES.name,
)


def messages(topic: str) -> dict[str, type[BaseModel]]:
    """The messages on a topic by ``type``, each an envelope with its data. Empty for an internal topic."""
    envelope, kinds = _ON.get(topic, (BaseModel, ()))
    return {kind.__name__: _whole(envelope, kind) for kind in kinds}


def _whole(envelope: type[BaseModel], kind: type[BaseModel]) -> type[BaseModel]:
    needs_data = any(field.is_required() for field in kind.model_fields.values())
    fields: dict[str, Any] = {
        "type": (Literal[kind.__name__], ...),
        "data": (kind, ... if needs_data else kind.model_construct()),
    }
    return create_model(f"{kind.__name__}Message", __base__=envelope, __doc__=kind.__doc__, **fields)


def union(topic: str) -> Any:
    """The messages on a topic as one type, told apart by ``type``."""
    kinds = list(messages(topic).values())
    return kinds[0] if len(kinds) == 1 else Annotated[reduce(or_, kinds), Field(discriminator="type")]


def json_schemas() -> dict[str, dict[str, dict[str, Any]]]:
    """The JSON Schema (2020-12) of each message by topic and type, and of each rejection's facts by name."""
    described = {topic: messages(topic) for topic in _ON} | {REJECTED: REJECTIONS}
    return {
        topic: {name: {"$schema": DIALECT, **model.model_json_schema()} for name, model in sorted(models.items())}
        for topic, models in described.items()
    }
