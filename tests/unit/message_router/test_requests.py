"""What a request of the message router hands on to its answer."""

from __future__ import annotations

import json
from types import SimpleNamespace

from services.infrastructure.vault import KeyRing
from services.message_router.recipients import Recipients
from services.message_router.requests import RequestReader

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_an_answer_is_part_of_its_requests_trace() -> None:
    request = {"specversion": "1.0", "id": "m-1", "type": "RouteMessage", "source": "tests", "subject": "ch-1"}
    value = json.dumps(request | {"accountid": "acme", "traceparent": TRACE, "data": {}}).encode()
    record = SimpleNamespace(topic="switchboard.message-requests", partition=0, offset=7, value=value)
    reader = RequestReader(Recipients(KeyRing.parse(KeyRing.make())), 8)
    _, (refusal,) = reader.read([record], 1_795_000_000_000)
    assert refusal.value is not None
    answer = json.loads(refusal.value)
    assert (answer["type"], answer["traceparent"]) == ("RoutingRefused", TRACE)
