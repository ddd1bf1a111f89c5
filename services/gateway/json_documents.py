"""Responses with customers' documents, such as an intent's data, whose JSON text is sent as the database has it.

To parse and write it again would hold the event loop for milliseconds, for as long as an account likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import Response

from contracts.section import SettingsModel


def document(text: str) -> msgspec.Raw:
    """The JSON text as a value that `json_response` copies."""
    return msgspec.Raw(text.encode())


def shown(settings: SettingsModel) -> dict[str, Any]:
    """The settings as they are shown, with documents in place of what intents hold."""
    return settings.model_dump(by_alias=True, warnings=False)


def json_response(content: Any, headers: Mapping[str, str] | None = None) -> Response:
    """``content`` may hold documents."""
    return Response(msgspec.json.encode(content), headers=headers, media_type="application/json")
