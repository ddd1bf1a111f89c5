"""What is the same for everybody is made once, and sent again only to who has not got it."""

from __future__ import annotations

import gzip
import json
from typing import cast

import pytest

from services.gateway.application import application
from services.infrastructure.postgres import Pool
from tests.unit.gateway.test_request_guard import ask

PATHS = (
    "/openapi.json",
    "/asyncapi.json",
    "/asyncapi",
    "/docs-assets/swagger-ui-bundle.js",
    "/docs-assets/swagger-ui.css",
)


@pytest.mark.parametrize("path", PATHS)
async def test_a_document_is_encoded_once(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = application(cast("Pool", None))
    plain, packed = await ask(gateway, "GET", path), await ask(gateway, "GET", path, (b"accept-encoding", b"gzip"))
    assert (plain.status, packed.headers["content-encoding"]) == (200, "gzip")
    assert gzip.decompress(packed.body) == plain.body
    assert int(packed.headers["content-length"]) < len(plain.body) / 2

    def never(*_: object, **__: object) -> bytes:
        raise AssertionError

    monkeypatch.setattr(json, "dumps", never)
    monkeypatch.setattr(gzip, "compress", never)
    assert (await ask(gateway, "GET", path)).body == plain.body
    assert (await ask(gateway, "GET", path, (b"accept-encoding", b"gzip"))).body == packed.body
    known = await ask(gateway, "GET", path, (b"if-none-match", plain.headers["etag"].encode()))
    assert (known.status, known.body) == (304, b"")


async def test_metrics_are_for_operators_and_not_on_the_port_of_the_api() -> None:
    assert (await ask(application(cast("Pool", None)), "GET", "/metrics")).status == 404
