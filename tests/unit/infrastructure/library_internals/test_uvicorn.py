"""What `library_internals/uvicorn.py` relies on: ``receive`` is a method of an object with the transport."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from unittest.mock import create_autospec

import h11
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from services.infrastructure.library_internals.uvicorn import abort_connection


async def test_the_receive_that_an_application_gets_leads_to_its_transport() -> None:
    transport = create_autospec(asyncio.Transport, instance=True)
    log = logging.getLogger("test")
    cycle = RequestResponseCycle(
        scope={"type": "http"},  # type: ignore[typeddict-item]
        conn=h11.Connection(h11.SERVER),
        transport=transport,
        flow=FlowControl(transport),
        logger=log,
        access_logger=log,
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        on_response=lambda: None,
    )
    cycle.disconnected = True  # so that uvicorn does not complain of a response that never comes

    async def application(_: Any, receive: Any, __: Any) -> None:
        abort_connection(receive)

    await cycle.run_asgi(application)
    transport.abort.assert_called_once_with()
