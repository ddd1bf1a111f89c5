"""The console as a browser without scripts uses it: its cookies, its forms, and the way to an issuer and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp

from services.gateway.authentication.oidc.tokens import TrustedIssuers
from tests.gateways import gateway
from tests.installation import Installation, fresh

CALLBACK = "/console/log-on/callback"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    text: str
    headers: dict[str, str]
    cookies: dict[str, dict[str, Any]]


class Browser:
    """Somebody's cookies, at one gateway."""

    def __init__(self, session: aiohttp.ClientSession, issuer: str) -> None:
        self.session, self._issuer = session, issuer

    async def get(self, path: str, **query: str) -> Answer:
        async with self.session.get(path, params=query, allow_redirects=False) as response:
            cookies = {name: {"value": one.value, **one} for name, one in response.cookies.items()}
            return Answer(response.status, await response.text(), dict(response.headers), cookies)

    async def post(self, path: str, **form: str) -> int:
        headers = {"Sec-Fetch-Site": "same-origin"}
        async with self.session.post(path, data=form, headers=headers, allow_redirects=False) as response:
            return response.status

    async def ask(self, next_page: str = "/console/history") -> dict[str, str]:
        """Begins to log on. Returns the query with which the browser goes to the issuer."""
        sent = await self.get("/console/log-on/issuer", issuer=self._issuer, next=next_page)
        assert sent.status == 303, sent.text
        return dict(parse_qsl(urlsplit(sent.headers["Location"]).query))

    async def consent(self, asked: dict[str, str], subject: str) -> dict[str, str]:
        """Logs on at the issuer. Returns the query with which the browser comes back."""
        url = f"{self._issuer}/oauth2/authorize"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, params=asked, data={"sub": subject}, allow_redirects=False) as sent_back,
        ):
            return dict(parse_qsl(urlsplit(sent_back.headers["Location"]).query))

    async def log_on(self, subject: str) -> Answer:
        return await self.get(CALLBACK, **await self.consent(await self.ask(), subject))

    async def is_logged_on(self) -> bool:
        return (await self.get("/console/channels")).status == 200

    async def form_token(self) -> str:
        page = (await self.get("/console/channels")).text
        return page.partition('name="form_token" value="')[2].partition('"')[0]


@dataclass(frozen=True, slots=True)
class Console:
    """A gateway's console."""

    address: str
    issuer: str

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[Browser]:
        jar = aiohttp.CookieJar(unsafe=True)  # also of an IP address
        async with aiohttp.ClientSession(self.address, cookie_jar=jar) as session:
            yield Browser(session, self.issuer)


@asynccontextmanager
async def console_of(installation: Installation, issuers: TrustedIssuers, issuer: str) -> AsyncIterator[Console]:
    async with (
        issuers.running(wait_s=10),
        gateway(installation, fresh("acct"), issuers=issuers) as (api, _),
        api.session.get("/console/log-on") as page,
    ):
        yield Console(str(page.url.origin()), issuer)
