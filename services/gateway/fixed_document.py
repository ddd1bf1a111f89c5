"""A document that stays the same while the process runs: made and encoded once, at its first request."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from functools import cached_property

from starlette.requests import Request
from starlette.responses import Response


class FixedDocument:
    """``make`` returns its bytes. Answers conditional requests, and sends gzip to who takes it."""

    def __init__(self, make: Callable[[], bytes], media_type: str, vary: str = "Accept-Encoding") -> None:
        self._make, self._media_type, self._vary = make, media_type, vary

    @cached_property
    def _plain(self) -> bytes:
        return self._make()

    @cached_property
    def _compressed(self) -> bytes:
        return gzip.compress(self._plain, mtime=0)

    @cached_property
    def _etag(self) -> str:
        """Weak: the same for both encodings."""
        return f'W/"{hashlib.sha256(self._plain).hexdigest()[:32]}"'

    def response(self, request: Request) -> Response:
        headers = {"ETag": self._etag, "Vary": self._vary, "Cache-Control": "no-cache"}
        if self._etag in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" not in request.headers.get("Accept-Encoding", ""):
            return Response(self._plain, 200, headers, self._media_type)
        return Response(self._compressed, 200, headers | {"Content-Encoding": "gzip"}, self._media_type)
