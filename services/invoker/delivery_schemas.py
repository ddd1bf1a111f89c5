"""What `delivery_log` answers with: for the OpenAPI document; no answer is validated by these types."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import with_config
from typing_extensions import TypedDict

from contracts.business_system import SignatureStyle
from contracts.invocation import DeliveryState
from contracts.message import Time


@with_config(use_attribute_docstrings=True)
class Attempt(TypedDict):
    """One signed call over HTTP. It had an answer, or ended before one."""

    number: int
    """1, 2, 3 … in the delivery."""

    started_at: Time
    duration_ms: int | None
    """Null while it lasts."""

    key_ids: list[str]
    """The signatures that the call carried."""

    accepted_key_id: str | None
    """The signature that the receiver said it verified."""

    status: int | None
    """The HTTP status of the answer."""

    stage: str | None
    """Where an attempt without an answer ended."""

    error: str | None
    answer_bytes: int | None


class AttemptWithAnswer(Attempt):
    """An attempt with the text of its answer."""

    answer: str | None
    """The body of the answer, at its end cut, and secrets taken out."""


@with_config(use_attribute_docstrings=True)
class _DeliveryFacts(TypedDict):
    id: str
    """Also the `webhook-id` of each call."""

    account: str
    channel: str
    request_id: str
    """The Idempotency-Key of the request."""

    system: str
    code: str
    template: str | None
    state: DeliveryState
    """Waiting for settings; due; parked while its system is disabled; and how it ended."""

    attempts: int
    key_id: str | None
    """The newest signature of the last call."""

    reason: str | None
    """Why it is dead or was refused: a stable name."""

    test: bool
    """Whether it is a test call."""

    to_listener: bool
    """Whether it went to a listener instead of the business system."""

    replays: int
    replayed_by: str | None
    created_at: Time
    due_at: Time
    expires_at: Time | None
    ended_at: Time | None


class Delivery(_DeliveryFacts):
    """A signed call to a business system, with its attempts."""

    attempt_log: list[Attempt]


class DeliveryWithBodies(_DeliveryFacts):
    """A signed call with what was asked for and what was answered."""

    request: dict[str, Any]
    """The request as it was made."""

    attempt_log: list[AttemptWithAnswer]


class DeliveryPage(TypedDict):
    """A page of deliveries, newest first."""

    deliveries: list[Delivery]
    next: str | None


class InvocationList(TypedDict):
    """The channel's newest deliveries."""

    invocations: list[Delivery]


@with_config(use_attribute_docstrings=True)
class Invoked(TypedDict):
    """A request for a call."""

    request_id: str
    delivery: DeliveryWithBodies | None
    """Null until the invoker has read the request."""


@with_config(use_attribute_docstrings=True)
class WouldCall(TypedDict):
    """What a request would lead to."""

    would: Literal["call", "wait"]
    """It would wait if its system is disabled."""

    body: dict[str, Any]
    """The body of the call."""


class WouldRefuse(TypedDict):
    """Why a request would be refused."""

    would: Literal["refuse"]
    reason: str
    message: str


@with_config(use_attribute_docstrings=True)
class TestCall(TypedDict):
    """A test call that was made."""

    request_id: str
    attempt: AttemptWithAnswer | None
    """Null where the call was refused before it was made; the delivery says why."""

    delivery: DeliveryWithBodies


@with_config(use_attribute_docstrings=True)
class Replayed(TypedDict):
    """How many deliveries are sent again."""

    replayed: int
    more: bool
    """Whether there may be more: repeat the request."""


@with_config(use_attribute_docstrings=True)
class SystemHealth(TypedDict):
    """Whether a business system can be called."""

    system: str
    verified_at: Time | None
    """Its first 2xx to a signed call at its present URL."""

    failures: int
    """In a row."""

    failing_since: Time | None
    circuit_open_until: Time | None
    """No call is made before."""


@with_config(use_attribute_docstrings=True)
class FailingSystem(TypedDict):
    """A business system whose last calls failed."""

    account: str
    channel: str
    system: str
    failures: int
    """In a row."""

    failing_since: Time | None
    circuit_open_until: Time | None
    """No call is made before."""


@with_config(use_attribute_docstrings=True)
class Proof(TypedDict):
    """How it shows that the receiver accepts a signature."""

    accepted_at: Time | None
    accepted_how: Literal["named", "alone"] | None
    """Its answer named the signature, or it answered 2xx to a call with that signature alone."""

    delivery: str | None


@with_config(use_attribute_docstrings=True)
class OfferedCall(TypedDict):
    """A call that waits for the answer of a listener. It carries no signature of the account."""

    delivery: str
    """Also the `webhook-id` of the call."""

    system: str
    code: str
    signature_style: SignatureStyle
    """How the business system wants its calls signed."""

    body: str
    """The body of the call, which is JSON."""

    traceparent: str | None
    """W3C Trace Context of the call."""

    remaining_s: float
    """Seconds that are left for the answer."""


class OfferedCalls(TypedDict):
    """The calls that wait for an answer, the oldest first."""

    calls: list[OfferedCall]


class TakenAnswer(TypedDict):
    """An answer that is the result of its call."""

    delivery: str


class ListenerLeft(TypedDict):
    """A listener that has ended."""

    listener: str
