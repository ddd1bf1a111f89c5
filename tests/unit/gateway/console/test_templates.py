"""The console's templates: escaped, without inline script or style, and with text that can be translated."""

from __future__ import annotations

import re

import pytest

from services.gateway.console.rendering import ENVIRONMENT, TEMPLATES, url

NAMES = sorted(str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.html"))


@pytest.mark.parametrize("name", NAMES)
def test_a_template_has_nothing_that_the_policy_refuses(name: str) -> None:
    text = (TEMPLATES / name).read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|hx-on|javascript:|js:", text) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_template_trusts_no_text(name: str) -> None:
    assert re.findall(r"\|\s*safe|autoescape|Markup", (TEMPLATES / name).read_text()) == []


@pytest.mark.parametrize("name", NAMES)
def test_text_goes_through_the_catalogue(name: str) -> None:
    text = (TEMPLATES / name).read_text()
    text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<pre>.*?</pre>", "", text, flags=re.S)
    text = re.sub(r"<!doctype html>|<[^>]*>| [a-z-]+=\"[^\"]*\"", "\n", text)
    bare = [line for line in re.findall(r"[A-Za-z]{2,}", text) if line not in ("Python", "JavaScript", "Go", "PHP")]
    assert bare == []


def test_values_are_escaped() -> None:
    assert ENVIRONMENT.from_string("{{ text }}").render(text="<b>") == "&lt;b&gt;"


def test_parts_of_an_address_are_escaped() -> None:
    assert url("channels", "a b/..?<", search="x&y", after="") == "/console/channels/a%20b%2F..%3F%3C?search=x%26y"
