"""A command as a CloudEvents envelope, ready to be published."""

from __future__ import annotations

import time
from typing import Any

from pydantic_core import from_json, to_json

from .. import topics
from ..envelope import Origin
from ..ids import is_id
from ..invocation import InvokeIntent, MakeTestCall, TriggerIntent
from ..message import rfc3339
from ..message_routing import RouteMessage
from ..message_status import ReportStatus
from ..rates import ApplyRateBook
from ..scheduling_resource import ReportSchedulingResource

REQUEST_TOPICS = {
    InvokeIntent.__name__: topics.INVOCATION_REQUESTS,
    MakeTestCall.__name__: topics.INVOCATION_REQUESTS,
    TriggerIntent.__name__: topics.INVOCATION_REQUESTS,
    RouteMessage.__name__: topics.MESSAGE_REQUESTS,
    ReportStatus.__name__: topics.MESSAGE_REQUESTS,
    ReportSchedulingResource.__name__: topics.SCHEDULING_RESOURCES,
    ApplyRateBook.__name__: topics.RATES,
}
"""The requests, which have no outcome -> the topic that takes them."""


def command_envelope(
    kind: str,
    data: dict[str, Any],
    *,
    source: str,
    channel: str,
    command_id: str,
    account: str,
    expected_version: int | None = None,
    dry_run: bool = False,
    actor: str | None = None,
    correlation_id: str | None = None,
    traceparent: str | None = None,
    origin: Origin | None = None,
) -> bytes:
    """The bytes of a command's record. Raises ValueError on an invalid id, and on data that is not JSON."""
    for what, name in (("channel", channel), ("command_id", command_id), ("account", account)):
        if not is_id(name):
            raise ValueError(f"{what} is {name!r}; it must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    optional = {
        "actor": actor,
        "expectedversion": expected_version,
        "dryrun": dry_run or None,
        "correlationid": correlation_id,
        "traceparent": traceparent,
        **({} if origin is None else dict(origin)),
    }
    value = to_json(
        {
            "specversion": "1.0",
            "id": command_id,
            "type": kind,
            "source": source,
            "subject": channel,
            "time": rfc3339(time.time_ns() // 1_000_000),
            "accountid": account,
            **{name: value for name, value in optional.items() if value is not None},
            "datacontenttype": "application/json",
            "data": data,
        }
    )
    if b"NaN" in value or b"Infinity" in value:
        try:  # it may be in a text
            from_json(value, allow_inf_nan=False)
        except ValueError:
            raise ValueError("the data holds NaN or an infinity, which JSON does not have") from None
    return value
