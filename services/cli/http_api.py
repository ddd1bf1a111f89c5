"""The HTTP API, for commands on machines that reach no broker: its address and an API key are in the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from services.cli.errors import CliError

URL = "SWITCHBOARD_API_URL"
KEY = "SWITCHBOARD_API_KEY"
_TIMEOUT_S = 10.0
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)


class ApiUnavailable(Exception):
    """The API does not answer, or not now; the same request may succeed later. The text is a sentence."""


class ApiRefused(CliError):
    """The API refuses the request; ``problem`` is the stable name of why."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


class HttpApi:
    """An async context manager. Its paths are below ``/v1/``."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._key = key
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Raises `CliError` where the address or the key is missing, or the key would travel unencrypted."""
        url, key = environment.get(URL, "").strip().rstrip("/"), environment.get(KEY, "").strip()
        for name, value, form in ((URL, url, "https://host of the gateway"), (KEY, key, "an API key")):
            if not value:
                raise CliError(f"{name} is not set; it must be {form}.")
        if not key.isascii() or not key.isprintable():
            raise CliError(f"{KEY} is no API key.")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise CliError(f"{URL} is {url!r}; it must be like https://switchboard.example.com.")
        if parts.scheme == "http" and not _is_this_machine(parts.hostname):
            raise CliError(f"{URL} is {url!r}; the API key would travel unencrypted: use https://.")
        return cls(url, key)

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._key}"}
        self._session = aiohttp.ClientSession(f"{self.url}/v1/", headers=headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def __call__(self, method: str, path: str, body: object = None, timeout_s: float = _TIMEOUT_S) -> Any:
        """The answer's JSON. Raises `ApiRefused`, and `ApiUnavailable` where to ask again may help."""
        if self._session is None:
            raise RuntimeError("HttpApi is used inside of `async with`")
        options: dict[str, Any] = {} if body is None else {"json": body}
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(method, path, allow_redirects=False, **options) as response,
            ):
                status, answer = response.status, await response.json(content_type=None)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            away = isinstance(error, (OSError, TimeoutError))
            reason = "No gateway answers" if away else "What answers is no gateway, or broke off,"
            raise ApiUnavailable(f"{reason} at {self.url} ({URL}).") from None
        if status < 300:
            return answer
        found = answer if isinstance(answer, dict) else {}
        problem, detail = str(found.get("type", "")).rpartition(":")[2], str(found.get("detail") or f"status {status}")
        if status in _TRY_AGAIN and problem not in ("TooManyListeners", "TooManyTestCalls", "TestCallPending"):
            raise ApiUnavailable(detail)
        raise ApiRefused(problem, detail)


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback or ip_address(host).is_unspecified
    except ValueError:
        return host == "localhost"
