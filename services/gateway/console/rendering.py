"""Renders views. Templates escape everything; what they say goes through gettext, so that it can be translated."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from contracts.message import unix_milliseconds
from services.gateway.console import countries
from services.gateway.console.assets import Assets
from services.gateway.console.catalogue import TRANSLATIONS, _
from services.gateway.console.differences import differences

TEMPLATES = Path(__file__).with_name("templates")
_HTMX = {
    "allowEval": False,
    "disableInheritance": True,
    "includeIndicatorStyles": False,
    "historyCacheSize": 0,  # a page may show a secret: the browser's storage must not keep it
    "refreshOnHistoryMiss": True,
    "defaultSwapStyle": "outerHTML",
    "defaultSettleDelay": 0,  # a part that was drawn anew hears of the next change from its first moment
    "responseHandling": [
        {"code": "204", "swap": False},
        {"code": "[23]..", "swap": True},
        {"code": "4(09|10|12|22)", "swap": True},  # a form with what is wrong in it
        {"code": "[45]..", "swap": False, "error": True},
    ],
}
CHANNEL_TYPES = {
    "whatsapp": "WhatsApp",
    "viber": "Viber",
    "messenger": "Messenger",
    "instagram": "Instagram",
    "telegram": "Telegram",
    "line": "LINE",
}
ROUTES = {
    "scheduled": (_("scheduled"), "on"),
    "own_number": (_("own number"), "warn"),
    "failed": (_("not sent"), "bad"),
    "not_applicable": (_("without scheduling"), "off"),
}
"""Route -> what it is called, and the class of its colour."""


def _url(*parts: str, **query: Any) -> str:
    """The address of a view: its parts below ``/console``, each escaped, and its query without what is empty."""
    path = "/console/" + "/".join(quote(part, safe="") for part in parts)
    given = [
        f"{quote(name)}={quote(str(value), safe='')}" for name, value in query.items() if value not in (None, "", [])
    ]
    return path + ("?" + "&".join(given) if given else "")


def _moment(text: str) -> str:
    """An RFC 3339 time as it is read in UTC."""
    moment = datetime.fromisoformat(text).astimezone(UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M:%S} UTC"


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = ", ".join(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text or "–"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_translations(TRANSLATIONS, newstyle=True)  # type: ignore[attr-defined]
    environment.filters |= {"moment": _moment, "milliseconds": unix_milliseconds, "pretty": pretty, "shown": _shown}
    environment.globals |= {
        "url": _url,
        "differences": differences,
        "htmx_config": json.dumps(_HTMX),
        "channel_types": CHANNEL_TYPES,
        "routes": ROUTES,
        "country_name": countries.name,
        "regions": countries.regions(),
    }
    return environment


ENVIRONMENT = _environment()
url = _url


def render(request: Request, template: str, **values: Any) -> str:
    assets: Assets = request.app.state.console_assets
    return ENVIRONMENT.get_template(template).render(asset=assets.url, path=request.url.path, **values)
