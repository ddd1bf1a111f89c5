"""What an issuer publishes: its discovery document, and the keys with which it signs at present."""

from __future__ import annotations

import asyncio
import time
import warnings
from contextlib import suppress
from typing import Annotated, Any, TypeVar

import aiohttp
import structlog
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, Key, KeySet, OKPKey, RSAKey
from pydantic import AfterValidator, BaseModel

from services.gateway.authentication.oidc.configuration import require_safe_url

log = structlog.stdlib.get_logger(__name__)

REFRESH_S = 300.0
"""How long a key that the issuer has withdrawn may still be taken."""
MIN_INTERVAL_S = 5.0
"""Between two fetches, whoever asks: tokens of strangers must not make us a burden to the issuer."""
MAX_AGE_S = 3600.0
"""How long the keys are taken while the issuer is away."""
TIMEOUT_S = 5.0
_MAX_BYTES = 512 * 1024

_Url = Annotated[str, AfterValidator(require_safe_url)]
_Document = TypeVar("_Document", bound=BaseModel)
UNREADABLE = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
"""What `fetch` and `Provider` meet when an issuer is away, or does not publish what it should."""


class Discovery(BaseModel):
    """What we use of OpenID Connect Discovery 1.0, section 3."""

    issuer: str
    jwks_uri: _Url
    authorization_endpoint: _Url | None = None
    token_endpoint: _Url | None = None


class _JsonWebKeys(BaseModel):
    keys: list[dict[str, Any]]


def http_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S), cookie_jar=aiohttp.DummyCookieJar())


async def fetch(
    session: aiohttp.ClientSession, method: str, url: str, document: type[_Document], **options: Any
) -> _Document:
    """Returns the JSON document of an answer with 200. Raises what `UNREADABLE` lists."""
    async with session.request(method, url, allow_redirects=False, **options) as response:
        body = bytearray()
        async for chunk in response.content.iter_chunked(65_536):
            body += chunk
            if len(body) > _MAX_BYTES:
                raise ValueError("the document is too large")
        if response.status != 200:
            raise ValueError(f"the answer has status {response.status}")
    return document.model_validate_json(bytes(body))


class Provider:
    """One issuer's discovery document and keys.

    Its one task fetches both, every `REFRESH_S` seconds and when somebody asks, and never sooner than `MIN_INTERVAL_S`
    seconds after the last time.
    """

    def __init__(self, issuer: str, *, refresh_s: float = REFRESH_S, min_interval_s: float = MIN_INTERVAL_S) -> None:
        self._issuer, self._refresh_s, self._min_interval_s = issuer, refresh_s, min_interval_s
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._asked = asyncio.Event()
        self._next: asyncio.Future[bool] | None = None
        self.discovery: Discovery | None = None

    @property
    def keys(self) -> KeySet | None:
        """The keys; None while none are known, or those that are known are too old."""
        return self._keys if time.monotonic() < self._fetched_at + MAX_AGE_S else None

    async def refreshed(self) -> bool:
        """Waits for a fetch that begins after this call. Returns whether it succeeded."""
        self._asked.set()
        return await asyncio.shield(self._following())

    def _following(self) -> asyncio.Future[bool]:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    async def run(self) -> None:
        """Fetches until it is cancelled."""
        reachable = True
        while True:
            this, self._next = self._following(), None
            self._asked.clear()
            error = await self._fetch()
            if (error is None) is not reachable:
                reachable = error is None
                if error is not None:
                    log.warning("issuer unavailable", issuer=self._issuer, cause=type(error).__name__)
                else:
                    log.info("issuer available", issuer=self._issuer)
            this.set_result(reachable)
            await asyncio.sleep(self._min_interval_s)
            if reachable:
                await self._until_asked()

    async def _until_asked(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._refresh_s):
                await self._asked.wait()

    async def _fetch(self) -> Exception | None:
        try:
            async with http_session() as session:
                url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
                discovery = await fetch(session, "GET", url, Discovery)
                if discovery.issuer != self._issuer:
                    raise ValueError("the discovery document is of another issuer")
                published = await fetch(session, "GET", discovery.jwks_uri, _JsonWebKeys)
        except UNREADABLE as error:
            return error
        keys = [key for data in published.keys if (key := _signing_key(data)) is not None]
        self.discovery, self._keys, self._fetched_at = discovery, KeySet(keys), time.monotonic()
        return None


def _signing_key(data: dict[str, Any]) -> Key | None:
    """Returns a public key for signatures; None for every other, and for what is no key: the rest are still of use."""
    if data.get("use", "sig") != "sig":
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SecurityWarning)  # RSA keys below 2,048 bits
            key = JWKRegistry.import_key(data)
    except (JoseError, SecurityWarning, ValueError, TypeError, KeyError):
        return None
    return key if isinstance(key, RSAKey | ECKey | OKPKey) and not key.is_private else None
