"""One trace from a client's requests to the call of a business system and back, as an OTLP receiver gets it."""

from __future__ import annotations

import asyncio
from secrets import token_hex

from tests.customer import CODE, Customer
from tests.installation import Installation
from tests.invocation_outcomes import outcome_of
from tests.otlp_receiver import OtlpReceiver, Span
from tests.receivers import Receiver

_READ_MODELS = ("projector", "projector-history", "projector-catalogue")


def traceparent(trace: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{'a' * 16}-{flags}"}


def shape(spans: list[Span], parent: str) -> dict[str, object]:
    """Names below a span, with what consumed where one did."""
    return {
        f"{one.name} {one.attributes.get('messaging.consumer.group.name', '')}".strip(): shape(spans, one.id)
        for one in spans
        if one.parent == parent
    }


async def test_a_trace_leads_from_a_request_through_command_event_and_projection_to_the_call_and_its_answer(
    installation: Installation, receiver: Receiver, shop: Customer, spans: OtlpReceiver
) -> None:
    await shop.open("crm", receiver.url("traced"))
    mine, unsampled, intent = token_hex(16), token_hex(16), f"{shop.path('crm')}/intents/"
    invocations = f"channels/{shop.channel}/invocations"
    body, data = {"name": "Traced", "default_data": {"order": "1"}}, {"system": "crm", "code": CODE}
    not_asked_for = await shop.api("PUT", intent + "UNSAMPLED", body, headers=traceparent(unsampled, "00"))
    hostile = await shop.api("PUT", intent + "HOSTILE", body, headers={"traceparent": f"00-{'0' * 32}-{'a' * 16}-01"})
    added = await shop.api("PUT", intent + "TRACED", body, headers=traceparent(mine))
    assert (not_asked_for.status, hostile.status, added.status) == (201, 201, 201)
    called = await shop.api("POST", f"{invocations}?wait=20", data, headers=traceparent(mine))
    assert called.body["delivery"]["state"] == "delivered"

    def complete(all_spans: list[Span]) -> bool:
        found, known = [one for one in all_spans if one.trace == mine], {one.key for one in all_spans}
        requests = sum(one.parent == "a" * 16 for one in found)
        return len(found) >= 11 and requests == 2 and all(one.links <= known for one in found)

    everything = await asyncio.to_thread(spans.until, complete)
    trace = [one for one in everything if one.trace == mine]
    consumers = [f"switchboard.{name}" for name in (*_READ_MODELS, "invoker", "message-router")]
    assert shape(trace, "a" * 16) == {
        "PUT /v1/channels/{channel}/business-systems/{system}/intents/{code}": {
            "decide AddIntent": {
                **{f"process switchboard.events {consumer}": {} for consumer in consumers},
                "process switchboard.outcomes switchboard.projector-history": {},
            }
        },
        "POST /v1/channels/{channel}/invocations": {
            "process switchboard.invocation-requests switchboard.invoker": {},
            "POST": {},
        },
    }
    assert not [one for one in everything if one.trace in (unsampled, "0" * 32)]

    (decided,) = (one for one in trace if one.name == "decide AddIntent")
    batches = [one for one in everything if decided.key in one.links]
    assert [(one.service, one.name, one.parent) for one in batches] == [("switchboard-decider", "decide batch", "")]
    assert decided.links == {batches[0].key}

    (call,) = (one for one in trace if one.name == "POST")
    assert receiver.calls["traced"][-1].headers["traceparent"] == f"00-{mine}-{call.id}-01"
    (request,) = (one for one in trace if one.id == call.parent)
    answer = await outcome_of(installation, shop.channel, called.body["request_id"])
    assert answer["traceparent"] == f"00-{mine}-{request.id}-01"

    raw = b"".join(one.raw for one in everything)
    for secret in (shop.channel, "acme", "TRACED", CODE, "crm", "127.0.0.1", called.body["request_id"]):
        assert secret.encode() not in raw
