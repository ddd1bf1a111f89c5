"""FastStream's batch parser and message, as `library_internals.faststream` leans on them."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import ConsumerRecord
from faststream.kafka.parser import AioKafkaBatchParser

from services.infrastructure.library_internals.faststream import parse_batch_unread, take_records


def record(headers: tuple[tuple[str, bytes], ...]) -> Any:
    return ConsumerRecord("events", 0, 7, 0, 0, b"ch-1", b"{}", None, 4, 2, headers)


async def test_headers_that_are_no_text_do_not_stop_the_batch() -> None:
    parser: Any = AioKafkaBatchParser(msg_class=_message_class(), regex=None)
    records = (record((("binary", b"\xff"),)), record(()))
    with pytest.raises(UnicodeDecodeError):
        await parser.parse_batch(records)
    message = await parse_batch_unread(records, parser.parse_batch)
    assert take_records(message) == records
    assert message.raw_message == ()


def _message_class() -> Any:
    from faststream.kafka.message import KafkaMessage

    return KafkaMessage
