"""The messages of Switchboard, and clients that publish and follow them.

    from switchboard_contracts import Publisher, ToggleSms

Public is what `dir` of this package lists; other names may change in any version. A name's module is imported when the
name is first asked for (PEP 562), so the messages need pydantic alone. The clients need the extra ``kafka`` too, and
sealed secrets the extra ``sealing``.
"""

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


@cache
def _modules() -> dict[str, str]:
    """Public name -> its module. The stub is the only list, so type checkers and programs see the same names."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
    return {
        alias.name: f".{imported.module}"
        for imported in stub.body
        if isinstance(imported, ast.ImportFrom)
        for alias in imported.names
    }


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name.startswith("_") or name not in _modules():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_modules()[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(_modules())
