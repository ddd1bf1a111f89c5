"""A publisher without `await`, for scripts.

with SyncPublisher("127.0.0.1:9092", source="my-script", account="acme") as publisher:
    outcome = publisher.send(ToggleSms(enabled=True), channel="ch-1")
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from ..sealing import SealKey
from .errors import NotOpen
from .publisher import Publisher

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _blocking(
    method: Callable[Concatenate[Publisher, _P], Coroutine[Any, Any, _R]],
) -> Callable[Concatenate[SyncPublisher, _P], _R]:
    """The method, waited for."""

    @wraps(method)
    def wait(self: SyncPublisher, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return self._wait(method(self._publisher, *args, **kwargs))

    return wait


class SyncPublisher:
    """A context manager; takes what `Publisher` takes. Safe to use from many threads at once.

    The event loop of its connections runs in a thread of its own, which ends with the ``with`` block.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        source: str,
        account: str | None = None,
        actor: str | None = None,
        seal_key: SealKey | None = None,
        **security: Any,
    ) -> None:
        self._publisher = Publisher(
            bootstrap_servers, source=source, account=account, actor=actor, seal_key=seal_key, **security
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread

    def __enter__(self) -> Self:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="switchboard publisher", daemon=True)
        self._thread.start()
        try:
            self._wait(self._publisher.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._wait(self._publisher.__aexit__(kind, error, trace))
        finally:
            self._end()

    def _end(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def _wait(self, work: Coroutine[Any, Any, _R]) -> _R:
        if self._loop is None:
            work.close()
            raise NotOpen("SyncPublisher", "with")
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result()
        except BaseException:  # Ctrl-C, for instance
            waiting.cancel()
            raise

    @property
    def seal_to(self) -> str:
        """As `Publisher.seal_to`."""
        return self._publisher.seal_to

    send = _blocking(Publisher.send)
    send_raw = _blocking(Publisher.send_raw)
    send_many = _blocking(Publisher.send_many)
    publish = _blocking(Publisher.publish)
    publish_many = _blocking(Publisher.publish_many)
