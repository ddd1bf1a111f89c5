"""What the intent catalogue answers with: for the OpenAPI document; no answer is validated by these types."""

from __future__ import annotations

from typing import Any

from pydantic import with_config
from typing_extensions import TypedDict


@with_config(use_attribute_docstrings=True)
class CatalogueIntent(TypedDict):
    """An intent that a template's buttons can call."""

    account: str
    channel: str
    business_system: str
    business_system_name: str
    disabled: bool
    """Whether calls wait because the business system is disabled."""

    code: str
    name: str
    default_data: dict[str, Any]
    schema: dict[str, Any] | None
    """The JSON Schema (2020-12) of its data."""

    templates: list[str]
    """The message templates that refer to it."""

    version: int
    """The channel's version when the intent last changed."""


@with_config(use_attribute_docstrings=True)
class IntentCatalogue(TypedDict):
    """A page of intents by channel, business system and code."""

    intents: list[CatalogueIntent]
    next: str | None
    cursor: str | None
    """Changes continue after it; null while the broker is away."""
