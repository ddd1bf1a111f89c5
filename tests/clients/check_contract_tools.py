"""What others made to read the contract: a linter for OpenAPI; AsyncAPI's own parser, and a generator of code.

`make clients` runs it, and not `make test`, because npm's registry is needed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.cli import contract
from services.gateway.asyncapi.document import asyncapi
from tests.clients.node import CLIENT, install, node

TOOLS = CLIENT.parent / "contract-tools"
TSC = TOOLS / "node_modules" / "typescript" / "bin" / "tsc"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    install(TOOLS)


def test_the_linter_finds_nothing_in_the_openapi_document(tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(contract.openapi())
    assert node("lint.ts", document, directory=TOOLS) == ""


def typescript_of(document: dict[str, Any], directory: Path) -> None:
    """Fails if the official parser finds anything, or the TypeScript that modelina makes does not compile."""
    file = directory / "asyncapi.json"
    file.write_text(json.dumps(document))
    node("asyncapi.ts", file, directory / "models", directory=TOOLS)
    shutil.copy(TOOLS / "tsconfig.json", directory)
    node(TSC, "-p", directory)


def test_typescript_of_the_asyncapi_document_compiles(tmp_path: Path) -> None:
    typescript_of(asyncapi(), tmp_path)
    assert "enabled: boolean;" in (tmp_path / "models" / "ToggleSms.ts").read_text()


def _title_the_fields(document: dict[str, Any]) -> None:
    """As Pydantic does: then what has one name in unlike messages is one type."""
    for schema in document["components"]["schemas"].values():
        for name, field in schema.get("properties", {}).items():
            field["title"] = name.capitalize()


def _leave_out_a_payload(document: dict[str, Any]) -> None:
    del document["components"]["schemas"]["ToggleSms"]


@pytest.mark.parametrize("damage", [_title_the_fields, _leave_out_a_payload])
def test_a_damaged_document_is_found(damage: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    document = json.loads(json.dumps(asyncapi()))
    damage(document)
    with pytest.raises(AssertionError):
        typescript_of(document, tmp_path)
