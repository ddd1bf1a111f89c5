"""Pages of other origins use the API where the operator lists them, and nowhere else."""

from __future__ import annotations

from typing import cast

import httpx

from services.gateway.application import application
from services.infrastructure.postgres import Pool

PAGE = "https://app.example"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "authorization, if-match, idempotency-key",
}


async def asked(method: str, headers: dict[str, str], *origins: str) -> httpx.Response:
    app = application(cast("Pool", None), cors_origins=origins)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        return await client.request(method, "/openapi.json", headers=headers)


async def test_a_preflight_of_a_listed_origin_is_answered_without_a_key() -> None:
    answer = await asked("OPTIONS", PREFLIGHT, PAGE)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == PREFLIGHT["Access-Control-Request-Headers"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_an_answer_to_a_listed_origin_lets_its_page_read_the_headers() -> None:
    answer = await asked("GET", {"Origin": PAGE}, PAGE)
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert {"ETag", "Switchboard-Cursor", "Retry-After"} <= set(
        answer.headers["Access-Control-Expose-Headers"].split(", ")
    )


async def test_no_other_origin_is_named() -> None:
    for origins in ((), ("https://other.example",)):
        for method, headers in (("OPTIONS", PREFLIGHT), ("GET", {"Origin": PAGE})):
            assert "Access-Control-Allow-Origin" not in (await asked(method, headers, *origins)).headers
