"""Answers that are sent, and that the client has not taken yet."""

from __future__ import annotations

from starlette.types import Message, Send

from services.infrastructure.byte_budget import ByteBudget

_KIB, _MIB = 1024, 1024 * 1024
_SMALL_BYTES = 4 * _KIB


def unread_budget() -> ByteBudget:
    """Of what streams have sent."""
    return ByteBudget(8 * _MIB, 16 * _MIB, reserve=8 * _MIB, share=512 * _KIB)


async def send_until_taken(send: Send, message: Message) -> None:
    """Sends it, and waits until the client has taken it from the server, unless it is small.

    ASGI's ``send`` waits for what was sent before, not for what it sends. So a large piece is followed by an empty one.
    """
    if len(message.get("body", b"")) <= _SMALL_BYTES:
        await send(message)
    else:
        await send({**message, "more_body": True})
        await send({**message, "body": b""})
