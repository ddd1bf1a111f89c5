"""Asks the product over HTTP, as anybody would."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any


class Api:
    """``address`` is the API's, ``key`` a platform key: it reads every account that it names."""

    def __init__(self, address: str, key: str) -> None:
        self._address, self._key = address.rstrip("/"), key

    def get(self, path: str, account: str, **query: Any) -> Any:
        """The parsed JSON answer. Raises `urllib.error.HTTPError` on an error status."""
        return self.send("GET", path, account, None, **query)[1]

    def etag(self, path: str, account: str, **query: Any) -> int:
        """The version that the answer's ETag names."""
        with self._open("GET", path, account, None, {}, **query) as answer:
            return int(answer.headers["ETag"].strip('"'))

    def send(
        self, method: str, path: str, account: str, body: Any, headers: dict[str, str] | None = None, **query: Any
    ) -> tuple[int, Any]:
        with self._open(method, path, account, body, headers or {}, **query) as answer:
            content = answer.read()
            return answer.status, json.loads(content) if content else None

    def status(self, method: str, path: str, account: str, body: Any, headers: dict[str, str] | None = None) -> int:
        """The status of the answer, whatever it is; ``body`` may be bytes, which are sent as they are."""
        try:
            return self.send(method, path, account, body, headers)[0]
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def _open(
        self, method: str, path: str, account: str, body: Any, headers: dict[str, str], **query: Any
    ) -> http.client.HTTPResponse:
        text = urllib.parse.urlencode({name.rstrip("_"): value for name, value in query.items() if value is not None})
        request = urllib.request.Request(  # noqa: S310 -- an http address that the caller chose
            f"{self._address}{path}{'?' if text else ''}{text}",
            method=method,
            data=body if body is None or isinstance(body, bytes) else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._key}",
                "Switchboard-Account": account,
                "Content-Type": "application/json",
            }
            | headers,
        )
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=60)  # noqa: S310
        return answer
