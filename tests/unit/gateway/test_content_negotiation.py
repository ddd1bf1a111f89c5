"""The Accept header: what a client prefers of what there is."""

from __future__ import annotations

import pytest

from services.gateway.content_negotiation import preferred

OFFERED = ("application/json", "text/csv")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("text/*", "text/csv"),
        ("text/html, text/csv;q=0.9, */*;q=0.1", "text/csv"),
        ("application/json;q=0.5, text/csv;q=0.4", "application/json"),
        ("*/*, application/json;q=0", "text/csv"),
        ("text/html, application/xml", None),
        ("text/csv;q=0", None),
        ("text/csv;q=much", None),
    ],
)
def test_the_best_of_what_is_offered(accept: str, chosen: str | None) -> None:
    assert preferred(accept, OFFERED) == chosen
