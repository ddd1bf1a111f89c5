"""The contract's files: written from the models, and checked against what was released.

``python -m services.cli.contract write`` after a change to a message; ``check`` is what `make check` runs; ``release``
makes what is now the promise that later changes are held against. ``openapi`` prints the document of the HTTP API.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

import contracts
from contracts.compatibility import breaks
from contracts.schemas import json_schemas
from services.gateway.asyncapi.document import asyncapi
from services.infrastructure.postgres import Pool

GENERATED = Path(contracts.__file__).parent / "generated"
RELEASED = GENERATED / "released.json"


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def openapi() -> str:
    """The document that every gateway serves."""
    from services.gateway.application import application  # all routes, which nothing else here needs

    return _text(application(cast("Pool", None)).openapi())


def files() -> dict[Path, str]:
    """What must be checked in, by path."""
    wanted = {GENERATED / "asyncapi.json": _text(asyncapi())}
    for topic, kinds in json_schemas().items():
        folder = GENERATED / "schemas" / topic.removeprefix("switchboard.").replace(", ", "/")
        wanted |= {folder / f"{kind}.json": _text(schema) for kind, schema in kinds.items()}
    return wanted


def problems() -> list[str]:
    """Why the contract cannot stay as it is, a sentence each."""
    wanted = files()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    left = [path for path in GENERATED.rglob("*.json") if path not in wanted and path != RELEASED]
    found = [f"{path.relative_to(GENERATED.parent.parent)} is stale; run `make contract`." for path in stale + left]
    released = json.loads(RELEASED.read_text()) if RELEASED.exists() else {}
    return found + breaks(released, json_schemas())


def write() -> None:
    wanted = files()
    for path in GENERATED.rglob("*.json"):
        if path not in wanted and path != RELEASED:
            path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main() -> int:
    match sys.argv[1:]:
        case ["write"]:
            write()
        case ["check"]:
            found = problems()
            for problem in found:
                print(problem, file=sys.stderr)
            return 1 if found else 0
        case ["release"]:
            RELEASED.write_text(_text(json_schemas()))
        case ["openapi"]:
            print(openapi(), end="")
        case _:
            print("write, check, release or openapi?", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
