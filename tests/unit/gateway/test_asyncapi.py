"""The AsyncAPI document names, describes and shows every message."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape
from typing import Any, cast

import httpx
import jsonschema_rs
import pytest

from contracts import schemas, topics
from services.gateway.application import application
from services.gateway.asyncapi import page
from services.gateway.asyncapi.document import asyncapi
from services.gateway.asyncapi.examples import DATA
from services.infrastructure.postgres import Pool

MODELS = {kind: model for topic in topics.TOPICS for kind, model in schemas.messages(topic.name).items()}


def message(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = asyncapi()["components"]["messages"][kind]
    return found


def test_every_message_is_there_once() -> None:
    channels = asyncapi()["channels"].values()
    assert sorted(kind for channel in channels for kind in channel["messages"]) == sorted(MODELS) == sorted(DATA)


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_a_message_has_words_and_an_example_that_is_one(kind: str) -> None:
    described = message(kind)
    assert described["name"] == kind
    assert described["title"]
    assert described["summary"].endswith((".", "…")), described["summary"]
    (example,) = described["examples"]
    payload = example["payload"]
    schema = MODELS[kind].model_json_schema()
    jsonschema_rs.Draft202012Validator(schema).validate(payload)
    assert MODELS[kind].model_validate_json(json.dumps(payload)).model_dump()["type"] == kind
    assert payload["data"].keys() <= schema["$defs"][kind].get("properties", {}).keys()


def test_the_page_shows_every_message_with_its_fields_and_its_example() -> None:
    shown = unescape(page.page())
    for kind in MODELS:
        _, _, rest = shown.partition(f'<details id="{kind}">')
        section = rest.partition("</details>")[0]
        assert json.dumps(message(kind)["examples"][0]["payload"], indent=2, ensure_ascii=False) in section, kind
        for name in asyncapi()["components"]["schemas"][kind].get("properties", {}):
            assert f'<th scope="row"><code>{name}</code>' in section, (kind, name)
    for channel in asyncapi()["channels"].values():
        assert channel["address"] in shown


def test_the_page_needs_nothing_from_elsewhere() -> None:
    shown = page.page()
    assert "<script" not in shown
    assert set(re.findall(r'(?:src|href)="(/[^"]*|[a-z]+:[^"]*)"', shown)) == {
        "/console/icon.svg",
        "/asyncapi.json",
        "/docs",
    }
    ids = re.findall(r'id="([^"]+)"', shown)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', shown)) <= set(ids)
    [style] = re.findall("<style>(.*?)</style>", shown, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.content_security_policy()
    assert "style=" not in shown.replace(style, "")


async def test_it_is_a_document_for_tools_and_a_page_for_browsers() -> None:
    transport = httpx.ASGITransport(application(cast("Pool", None)))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        shown = await client.get("/asyncapi", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        document = await client.get("/asyncapi")
        always = await client.get("/asyncapi.json", headers={"Accept": "text/html"})
    assert shown.text == page.page()
    assert shown.headers["Content-Type"] == "text/html; charset=utf-8"
    assert shown.headers["Content-Security-Policy"] == page.content_security_policy()
    assert document.headers["Vary"] == shown.headers["Vary"] == "Accept, Accept-Encoding"
    assert document.headers["Content-Type"] == always.headers["Content-Type"] == "application/vnd.aai.asyncapi+json"
    assert document.json() == always.json() == asyncapi()
