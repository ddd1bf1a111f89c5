"""An issuer of tokens that nobody here wrote: `oidc-provider-mock`, as a process. Each start draws a new key."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import aiohttp

from services.gateway.authentication.oidc.configuration import OidcConfiguration
from services.gateway.authentication.oidc.tokens import TrustedIssuers
from services.infrastructure.embedded.process import free_port

REDIRECT = "http://127.0.0.1/callback"


class OidcProvider:
    """A context manager: it answers inside it. Its claims of a subject are those that were set last."""

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        self._port = free_port()
        self._log = directory / f"oidc-provider-{self._port}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.issuer = f"http://{host}:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "oidc_provider_mock", "--port", str(self._port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        while self._process.poll() is None:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return
            time.sleep(0.05)
        raise RuntimeError(self._log.read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def rotate(self) -> None:
        """Signs with another key from now on, and publishes that one alone."""
        self.stop()
        self.start()

    def requests(self, path: str) -> int:
        """How often somebody has asked for the path."""
        return self._log.read_text().count(f'GET {path} HTTP/1.1"')

    async def set_claims(self, subject: str, **claims: object) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.put(f"{self.issuer}/users/{subject}", json=claims) as done,
        ):
            assert done.status == 204

    async def token(self, subject: str, audience: str = "switchboard", **claims: object) -> str:
        """Has somebody log on, and returns the signed token. Claims that it sets itself can be overridden."""
        await self.set_claims(subject, **claims)
        client = {"client_id": audience, "redirect_uri": REDIRECT}
        query = client | {"response_type": "code", "scope": "openid profile email"}
        form = client | {"grant_type": "authorization_code", "client_secret": "any"}
        async with aiohttp.ClientSession(self.issuer) as session:
            async with session.post(
                "/oauth2/authorize", params=query, data={"sub": subject}, allow_redirects=False
            ) as sent_back:
                [code] = parse_qs(urlsplit(sent_back.headers["Location"]).query)["code"]
            async with session.post("/oauth2/token", data=form | {"code": code}) as answer:
                tokens = await answer.json()
        return str(tokens["id_token"])

    async def json_web_key(self) -> dict[str, Any]:
        """The public key that it publishes."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.issuer}/jwks") as answer:
            [key] = (await answer.json())["keys"]
        return dict(key)


EDITOR: dict[str, Any] = {"groups": ["editors"], "name": "Alice"}
"""Claims of somebody who may change the settings of the account ``acme``."""
GRANTS: list[dict[str, Any]] = [
    {"claims": {"groups": "editors"}, "roles": ["editor"], "account": "acme"},
    {"claims": {"groups": "auditors"}, "roles": ["auditor"], "account": "acme"},
    {"claims": {"groups": "operators", "email_verified": True}, "roles": ["administrator"], "scope": "platform"},
    {"claims": {"groups": "tenants"}, "roles": ["editor"], "account_claim": "tenant"},
]


def configured(*issuers: str, grants: list[dict[str, Any]] = GRANTS) -> dict[str, Any]:
    """The file of issuers whose tokens for ``switchboard`` are taken, and at which people log on to the console."""
    console = {"label": "Example", "client_id": "console", "client_secret": "s3cret/+"}
    each = {"audiences": ["switchboard"], "skew_seconds": 5, "grants": grants, "console": console}
    return {"console_url": "http://127.0.0.1", "issuers": [each | {"issuer": one} for one in issuers]}


def trusting(*issuers: str, grants: list[dict[str, Any]] = GRANTS, **intervals: float) -> TrustedIssuers:
    return TrustedIssuers(OidcConfiguration.model_validate(configured(*issuers, grants=grants)), **intervals)
