"""Checks data against schemas: what is surely cheap at once, everything else in a worker process with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import OrderedDict
from hashlib import sha256
from typing import Any

import structlog
from prometheus_client import Counter

from services.domain.cheap_check import is_surely_cheap
from services.domain.json_schema import TIMED_OUT, Verdict, check_within_budget
from services.schema_validation.worker import READY

log = structlog.stdlib.get_logger(__name__)

_ENDED = Counter("switchboard_schema_checks_ended", "Checks that were over their deadline, and refused.")

WORKER_MODULE = "services.schema_validation.worker"
WALL_LIMIT_S = 5.0
"""For one attempt. The worker ends itself by its processor time, long before; this is for a machine that stalls, or one
whose processors are all taken by what comes before the worker."""
START_TIMEOUT_S = 30.0
REMEMBERED_VERDICTS = 512
_ATTEMPTS = 2
_ENVIRONMENT_PREFIX = "SWITCHBOARD_"


class WorkerUnavailable(OSError):
    """The worker process does not start. That says nothing about what was to be checked."""


class SchemaValidator:
    """One worker process, started with the first check that needs it, and again after its end.

    Verdicts are remembered: what timed out does so once, however often it is asked about.
    """

    def __init__(self, worker_module: str = WORKER_MODULE) -> None:
        self._worker_module = worker_module
        self._worker: Process | None = None
        self._turn = asyncio.Lock()
        self._remembered: OrderedDict[bytes, Verdict] = OrderedDict()

    def verdict_now(self, schema: dict[str, Any], data: object) -> Verdict | None:
        """The verdict, if it is surely cheap or remembered; None if `check` has to find it."""
        if is_surely_cheap(schema, data):
            return check_within_budget(schema, data)
        if not self._remembered:
            return None
        return self._recall(_key(_request(schema, data)))

    async def check(self, schema: dict[str, Any], data: object) -> Verdict:
        """The verdict. Raises `WorkerUnavailable`."""
        if is_surely_cheap(schema, data):
            return check_within_budget(schema, data)
        request = _request(schema, data)
        key = _key(request)
        verdict = self._recall(key)
        if verdict is not None:
            return verdict
        async with self._turn:
            verdict = self._recall(key) or await self._check(request)
        self._remember(key, verdict)
        return verdict

    def remember(self, schema: dict[str, Any], data: object, verdict: Verdict) -> None:
        self._remember(_key(_request(schema, data)), verdict)

    async def aclose(self) -> None:
        async with self._turn:
            await self._end_worker()

    def _remember(self, key: bytes, verdict: Verdict) -> None:
        self._remembered[key] = verdict
        if len(self._remembered) > REMEMBERED_VERDICTS:
            self._remembered.popitem(last=False)

    def _recall(self, key: bytes) -> Verdict | None:
        verdict = self._remembered.get(key)
        if verdict is not None:
            self._remembered.move_to_end(key)
        return verdict

    async def _check(self, request: bytes) -> Verdict:
        """A worker that ends for another reason than its timer may have been ended by the machine: one more attempt."""
        for _ in range(_ATTEMPTS):
            worker = self._worker or await self._start_worker()
            try:
                async with asyncio.timeout(WALL_LIMIT_S):
                    line = await _answer(worker, request)
            except TimeoutError:
                line = b""
            except BaseException:
                await self._end_worker()  # its answer would be taken for that of the next request
                raise
            if line.endswith(b"\n"):
                return Verdict(*json.loads(line))
            if await self._end_worker() == -signal.SIGPROF:
                break
        _ENDED.inc()
        log.warning("a schema's check was ended", request_bytes=len(request))
        return TIMED_OUT

    async def _start_worker(self) -> Process:
        """The worker gets no variable of ours: it handles what customers wrote, and needs no secret."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_ENVIRONMENT_PREFIX)}
        command = (sys.executable, "-m", self._worker_module)
        self._worker = worker = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                started = await worker.stdout.readline() == READY  # type: ignore[union-attr]
        except TimeoutError:
            started = False
        except BaseException:
            await self._end_worker()
            raise
        if not started:
            await self._end_worker()
            raise WorkerUnavailable("the process that checks schemas does not start")
        return worker

    async def _end_worker(self) -> int | None:
        """Returns the exit status; negative is the signal that ended it."""
        worker, self._worker = self._worker, None
        if worker is None:
            return None
        if worker.stdin is not None:
            worker.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):  # one that ended by itself says why
                return await worker.wait()
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
        return await worker.wait()


async def _answer(worker: Process, request: bytes) -> bytes:
    """The line of the answer; an incomplete one where the worker ended."""
    if worker.stdin is None or worker.stdout is None:
        raise TypeError("the worker has pipes")
    with contextlib.suppress(ConnectionError):
        worker.stdin.write(request)
        await worker.stdin.drain()
    return await worker.stdout.readline()


def _request(schema: dict[str, Any], data: object) -> bytes:
    return json.dumps([schema, data], separators=(",", ":")).encode() + b"\n"


def _key(request: bytes) -> bytes:
    return sha256(request).digest()
