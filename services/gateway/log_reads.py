"""Requests that read the event log itself, for audits.

Reading the log takes as long as the log is long. It happens in a thread with an event loop of its own, answers are
encoded there too, and a bounded number run at a time, at most one of each account, so that nobody else waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar

from aiokafka.errors import KafkaError
from fastapi import Request, Response

from contracts.bounded_json import compact_json
from services.audit.log.errors import AuditError, BrokenLog, NoSuchVersion, Unclear
from services.audit.log.kafka_log import KafkaLog
from services.audit.log.source import Log
from services.gateway.authentication.caller import Caller
from services.gateway.interruptible_log import InterruptibleLog
from services.gateway.problems import Problem, unavailable
from services.gateway.requests import turn_of
from services.infrastructure.byte_budget import ByteBudget
from services.infrastructure.config import Settings
from services.infrastructure.fair_queue import FairQueue, QueueFull
from services.infrastructure.kafka import security_options

CONCURRENT_READS = 4
READS_PER_ACCOUNT = 1
WAITING_READS_PER_ACCOUNT = 4
MAX_WAIT_FOR_TURN_S = 10.0
MAX_READ_S = 60.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024
_CLIENT_CHECK_S = 0.5

LOG_PROBLEMS = ("VersionUnknown", "AuditImpossible", "LogNotSound", "AuditsBusy", "AuditTooLong")
"""Of every route that reads the log."""

Result = TypeVar("Result")
OpenLog = Callable[[], AbstractAsyncContextManager[Log]]


async def read_log(request: Request, caller: Caller, query: Callable[[Log], Coroutine[Any, Any, Result]]) -> Result:
    """Returns what ``query`` finds in the log. Raises `Problem`."""
    reads: LogReads = request.app.state.log_reads
    turn_of(request).end()
    try:
        return await reads.run(caller.account or "", query, request.is_disconnected)
    except Unclear as error:
        raise Problem(400, "ParameterInvalid", str(error)) from None
    except NoSuchVersion as error:
        raise Problem(404, "VersionUnknown", str(error)) from None
    except BrokenLog as error:
        raise Problem(500, "LogNotSound", str(error)) from None
    except AuditError as error:
        raise Problem(409, "AuditImpossible", str(error)) from None
    except KafkaError:
        raise unavailable("broker") from None


def encode_answer(answer: Any) -> bytes:
    """The answer as JSON, for the thread that made it. Raises `AuditError` where it is too large to send."""
    encoded = b"".join(_pieces(answer))
    if len(encoded) > MAX_ANSWER_BYTES:
        raise AuditError(
            f"The answer has {len(encoded):,} bytes; at most {MAX_ANSWER_BYTES:,} are sent over HTTP. Ask for less, "
            "or use `switchboard audit` beside the broker, which has no limit."
        )
    return encoded


def _pieces(answer: Any) -> Iterator[bytes]:
    """The answer as JSON, the members of its lists one by one: the event loop has no turn while one is encoded."""
    if not isinstance(answer, dict):
        yield _encode(answer)
        return
    separator = b"{"
    for name, value in answer.items():
        yield separator + _encode(name) + b":"
        if isinstance(value, list) and value:
            for number, member in enumerate(value):
                yield b"," if number else b"["
                yield _encode(member)
            yield b"]"
        else:
            yield _encode(value)
        separator = b","
    yield b"}" if answer else b"{}"


def _encode(value: Any) -> bytes:
    return compact_json(value).encode(errors="surrogatepass")


def json_response(encoded: bytes) -> Response:
    return Response(encoded, media_type="application/json")


class LogReads:
    """The running reads of one gateway."""

    def __init__(
        self,
        open_log: OpenLog | None = None,
        max_read_s: float = MAX_READ_S,
        max_wait_s: float = MAX_WAIT_FOR_TURN_S,
        memory: ByteBudget | None = None,
    ) -> None:
        self._open_log = open_log or _open_log
        self._max_read_s, self._max_wait_s = max_read_s, max_wait_s
        self._queue = FairQueue(CONCURRENT_READS, READS_PER_ACCOUNT, WAITING_READS_PER_ACCOUNT, budget=memory)
        self._running: set[asyncio.Task[Any]] = set()

    async def run(
        self,
        account: str,
        query: Callable[[Log], Coroutine[Any, Any, Result]],
        client_left: Callable[[], Awaitable[bool]],
    ) -> Result:
        """Raises what ``query`` raises, and `Problem` where no turn comes, time runs out, or the client leaves."""
        turn = await self._turn(account)
        reading = _Reading(self._open_log, query)
        task = asyncio.create_task(_hold(turn, reading))
        self._running.add(task)
        task.add_done_callback(self._finished)
        deadline = time.monotonic() + self._max_read_s
        try:
            while True:
                rest = deadline - time.monotonic()
                done, _ = await asyncio.wait({task}, timeout=max(0.0, min(rest, _CLIENT_CHECK_S)))
                if done:
                    result: Result = task.result()
                    return result
                if rest <= 0:
                    raise Problem(
                        503,
                        "AuditTooLong",
                        f"The audit took longer than {self._max_read_s:.0f} s and was ended; ask for one channel or a "
                        "shorter time, or use `switchboard audit` beside the broker.",
                    )
                if await client_left():
                    raise Problem(499, "ClientLeft", "The client closed the connection before the audit was done.")
        finally:
            reading.cancel()

    async def _turn(self, account: str) -> AsyncExitStack:
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._max_wait_s):
                    await stack.enter_async_context(self._queue.turn(account))
            except (TimeoutError, QueueFull):
                raise Problem(
                    503, "AuditsBusy", "Other audits are reading the log at the moment; try again shortly."
                ) from None
            return stack.pop_all()

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # an ended read has nobody who would retrieve it


class _Reading:
    """One read in a thread, which can be ended from the gateway's event loop."""

    def __init__(self, open_log: OpenLog, query: Callable[[Log], Coroutine[Any, Any, Any]]) -> None:
        self._open_log, self._query = open_log, query
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._ended = False

    def __call__(self) -> Any:
        try:
            return asyncio.run(self._read())
        except asyncio.CancelledError:
            return None  # nobody waits for it any more

    async def _read(self) -> Any:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._ended:
            return None
        async with self._open_log() as log:
            return await self._query(InterruptibleLog(log))

    def cancel(self) -> None:
        """Ends the read within its next few records, or after the answer that it is making."""
        self._ended = True
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # it is done, and its loop closed
                self._loop.call_soon_threadsafe(self._task.cancel)


async def _hold(turn: AsyncExitStack, reading: _Reading) -> Any:
    """Holds the turn until the thread is done, even if the request is not there any more."""
    async with turn:
        return await asyncio.to_thread(reading)


@asynccontextmanager
async def _open_log() -> AsyncIterator[Log]:
    bootstrap_servers = Settings.from_environment().kafka_bootstrap_servers
    if bootstrap_servers is None:
        raise KafkaError
    async with KafkaLog(bootstrap_servers, security_options()) as log:
        yield log
