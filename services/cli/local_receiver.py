"""The developer's own receiver: called as the invoker calls a business system, with this machine's secret."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from services.cli.errors import CliError
from services.domain.webhook_signature import encode_secret
from services.invoker.delivery.http_call import ANSWER_LIMIT, signature_headers
from services.invoker.settings_replica.endpoint import Endpoint, LiveSignature

_BEYOND = 1024
"""So much more than the limit is sent back, so that the invoker sees that it is more."""


class NotForwarded(Exception):
    """What came is not a call that was asked for; the text says why."""


class LocalReceiver:
    """Use it inside of `async with`. It never follows redirects and uses no proxy, as the invoker does."""

    def __init__(self, url: str, secret: bytes) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CliError(f"--forward-to is {url!r}; it must be like http://localhost:3000.")
        self.url = url
        self._secret = secret
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            headers={"User-Agent": "Switchboard/1", "Accept-Encoding": "identity", "Content-Type": "application/json"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def forward(self, call: dict[str, Any], channel: str, timeout_s: float) -> dict[str, Any]:
        """What the API takes as the answer: a status with a body, or a failure. Raises `NotForwarded`."""
        if self._session is None:
            raise RuntimeError("LocalReceiver is used inside of `async with`")
        _verify(call, channel)
        body = call["body"].encode()
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.post(
                    self.url, data=body, headers=self._signed(call, body), allow_redirects=False
                ) as response,
            ):
                answer = await _read_bounded(response.content)
        except TimeoutError:
            return {"failure": "timeout"}
        except aiohttp.ClientConnectorError:
            return {"failure": "refused"}
        except (aiohttp.ClientError, OSError, ValueError):
            return {"failure": "broken"}
        return {"status": response.status, "body": base64.b64encode(answer).decode()}

    def _signed(self, call: dict[str, Any], body: bytes) -> dict[str, str]:
        signature = LiveSignature("development", self._secret)
        endpoint = Endpoint("", self.url, call["signature_style"], disabled=False, signatures=(signature,))
        trace = {} if call["traceparent"] is None else {"traceparent": call["traceparent"]}
        return trace | signature_headers(endpoint, call["delivery"], body)

    @property
    def secret(self) -> str:
        """As a receiver takes it."""
        return encode_secret(self._secret)


def _verify(call: dict[str, Any], channel: str) -> None:
    """Raises `NotForwarded` unless the body is whole, and of the channel, system and intent that the call names."""
    try:
        body = json.loads(call["body"])
    except ValueError:
        raise NotForwarded("its body is no JSON") from None
    for field, expected in (("channel", channel), ("business_system", call["system"]), ("type", call["code"])):
        if not isinstance(body, dict) or body.get(field) != expected:
            raise NotForwarded(f"its body is not of this {field.replace('_', ' ')}")


async def _read_bounded(content: aiohttp.StreamReader) -> bytes:
    answer = b""
    while len(answer) < ANSWER_LIMIT + _BEYOND and (part := await content.read(ANSWER_LIMIT + _BEYOND - len(answer))):
        answer += part
    return answer
