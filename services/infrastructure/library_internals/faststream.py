"""Internals of FastStream that the projections and the invoker lean on. Read in FastStream 0.7.8."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from faststream.kafka import KafkaMessage


async def parse_batch_unread(records: tuple[Any, ...], parse: Callable[[Any], Awaitable[KafkaMessage]]) -> KafkaMessage:
    """A parser that hands the records over whole.

    FastStream's own parser decodes every header as text. A header that is no text makes it fail where no handler can
    catch it, and the whole batch would be skipped without a trace. So it is given one record without headers.
    """
    message = await parse((replace(records[0], headers=()),))
    message.raw_message = records
    return message


async def decode_nothing(message: KafkaMessage) -> KafkaMessage:
    """A decoder that hands the message over, so that the handler decodes the records."""
    return message


def take_records(message: KafkaMessage) -> tuple[Any, ...]:
    """The records of the message, which loses them.

    FastStream's message is part of a reference cycle: records left in it live until the garbage collector runs.
    """
    records: Any
    records, message.raw_message = message.raw_message, ()
    return tuple(records)
