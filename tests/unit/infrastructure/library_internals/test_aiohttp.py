"""The source of aiohttp that `library_internals/aiohttp.py` relies on has not changed since it was read."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import BaseConnector, Connection
from aiohttp.streams import DataQueue

READ: list[tuple[str, Callable[..., Any]]] = [
    ("b9fe1f4d3e57ad12", BaseConnector.connect),
    ("1544c015301a4643", Connection.close),
    ("985a11c93791a858", Connection.release),
    ("8636fdb3a4b93b5f", ClientRequest.__init__),
    ("0ecb92db47ed7184", ClientRequest.update_host),
    ("2eb047e322481533", ResponseHandler.set_response_params),
    ("fef595ed5edda3ff", ResponseHandler.should_close.fget),  # type: ignore[attr-defined]
    ("1340dfce4e1945b4", DataQueue.read),
]


@pytest.mark.parametrize(("digest", "function"), READ, ids=[function.__qualname__ for _, function in READ])
def test_the_source_is_the_one_that_was_read(digest: str, function: Callable[..., Any]) -> None:
    source = inspect.getsource(function)
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == digest, f"changed in aiohttp {aiohttp.__version__}"
