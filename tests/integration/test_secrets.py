"""Signatures are nowhere in the clear: not on the broker's disk, not in the database's files, not in any output."""

from __future__ import annotations

import base64
import hashlib
import time
from pathlib import Path

import pytest
from aiohttp import web

from contracts.sealing import plain_token_of
from services.domain.webhook_signature import plain_token
from tests.installation import Installation, fresh
from tests.servers import Servers


def _forms(shown: str) -> dict[str, bytes]:
    """Every form in which a signature, as its owner is shown it, could have been written down."""
    prefix, _, text = shown.partition("_")
    secret = base64.b64decode(text)
    assert (prefix, len(secret)) == ("whsec", 32)
    return {
        "raw": secret,
        "base64": base64.b64encode(secret).rstrip(b"="),
        "base64url": base64.urlsafe_b64encode(secret).rstrip(b"="),
        "hex": secret.hex().encode(),
        "HEX": secret.hex().upper().encode(),
        "token": plain_token(secret).encode(),
    }


def _found(needles: dict[str, bytes], directories: list[Path], since: float) -> list[str]:
    """In the files written at or after ``since`` (Unix seconds): the servers have many databases of other tests."""
    written = (
        path
        for directory in directories
        for path in directory.rglob("*")
        if path.is_file() and path.stat().st_mtime >= since
    )
    return [f"{form} in {path}" for path in written for form in _forms_in(path.read_bytes(), needles)]


def _forms_in(content: bytes, needles: dict[str, bytes]) -> list[str]:
    return [form for form, needle in needles.items() if needle in content]


async def _echo(request: web.Request) -> web.Response:
    """A receiver that gives away what it was told, in its JSON answer."""
    return web.json_response({"headers": dict(request.headers), "body": await request.text()})


@pytest.mark.parametrize("style", ["standard-webhooks", "plain-token"])
async def test_signatures_are_nowhere_in_the_clear(
    shared_servers: Servers, installation: Installation, style: str
) -> None:
    if not shared_servers.directories:
        pytest.skip("the broker's and the database's files are not ours to read")
    channel, port, began = fresh("secret"), installation.receiver_port(), time.time() - 1
    app = web.Application()
    app.router.add_post("/hook", _echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    url = f"http://127.0.0.1:{port}/hook"
    async with installation.api(None, **{"Switchboard-Account": "acme"}) as platform, installation.api("acme") as api:
        registered = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
        assert (await platform("PUT", f"channels/{channel}", registered)).status == 201
        system = f"channels/{channel}/business-systems/crm"
        drawn = await api("POST", f"{system}/signature", {"api_request_url": url})
        opened = {"name": "CRM", "api_request_url": url, "signature_style": style}
        assert (await api("PUT", system, opened)).status == 201
        refreshed = await api("POST", f"{system}/signature", {})
        revealed = await api("GET", f"{system}/signature")
        intent = {"name": "Order", "default_data": {"order": "1"}}
        added = await api("PUT", f"{system}/intents/ORDER", intent)
        assert added.status == 201
        invocations = f"channels/{channel}/invocations?wait=20&min_version={added.body['version']}"
        called = await api("POST", invocations, {"system": "crm", "code": "ORDER"})
        await api("DELETE", f"{system}/signature/{refreshed.body['events'][0]}")
    await runner.cleanup()

    assert called.body["delivery"]["state"] == "delivered", called.body
    first, second = drawn.body["signature"], refreshed.body["signature"]
    assert revealed.body["signature"] == second != first
    assert refreshed.body["plain_token"] == revealed.body["plain_token"] == plain_token_of(second)
    secrets = {"first": first, "second": second}
    needles = {f"{name} {form}": text for name, secret in secrets.items() for form, text in _forms(secret).items()}
    assert _found(needles, [*shared_servers.directories, installation.directory], began) == []
    # The search itself works: what is no secret is found by it.
    fingerprint = {"fingerprint": hashlib.sha256(b"").hexdigest().encode(), "channel": channel.encode()}
    assert _found(fingerprint, list(shared_servers.directories), began)
