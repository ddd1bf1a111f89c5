"""An issuer whose keys and documents a test chooses, where `tests/oidc_provider.py` has one key and no id for it."""

from __future__ import annotations

import json
import time
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import Key, RSAKey
from joserfc.jws import JWSRegistry

from services.infrastructure.embedded.process import free_port
from tests.oidc_provider import EDITOR


def rsa_key(kid: str, size: int = 2048) -> RSAKey:
    return RSAKey.generate_key(size, {"kid": kid})


class LocalIssuer:
    """An asynchronous context manager: it answers inside it. ``keys`` are what it publishes, and ``asked`` how often.

    A code is redeemed for ``id_token``; ``redeemed`` has each form with its Authorization.
    """

    def __init__(self, *keys: Key) -> None:
        self._port = free_port()
        self.issuer = f"http://127.0.0.1:{self._port}"
        self.keys: list[dict[str, Any]] = [key.as_dict(private=False) for key in keys]
        self.discovery = {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/jwks",
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
        }
        self.id_token = ""
        self.redeemed: list[tuple[dict[str, Any], str]] = []
        self.asked = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discover)
        app.router.add_get("/jwks", self._jwks)
        app.router.add_get("/elsewhere", self._redirect)
        app.router.add_post("/token", self._redeem)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _discover(self, _: web.Request) -> web.Response:
        return web.json_response(self.discovery)

    async def _jwks(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(body=json.dumps({"keys": self.keys}), content_type="application/jwk-set+json")

    async def _redeem(self, request: web.Request) -> web.Response:
        self.redeemed.append((dict(await request.post()), request.headers.get("Authorization", "")))
        return web.json_response({"id_token": self.id_token, "access_token": "opaque", "token_type": "Bearer"})

    async def _redirect(self, _: web.Request) -> web.Response:
        raise web.HTTPFound("/jwks")

    def token(self, key: Key, algorithm: str = "RS256", *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token for an editor, signed with the key whether or not it is published, without what is None."""
        now = int(time.time())
        default = {"iss": self.issuer, "aud": "switchboard", "sub": "alice", "iat": now, "exp": now + 60, **EDITOR}
        registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
        header = {"alg": algorithm, "kid": key.kid} | (header or {})
        return jwt.encode(_present(header), _present(default | claims), key, registry=registry)


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
