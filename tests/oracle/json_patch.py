"""Applies JSON Patches (RFC 6902)."""

from __future__ import annotations

from typing import Any


def apply_patch(document: Any, patch: list[dict[str, Any]]) -> Any:
    """The document after a JSON Patch (RFC 6902) of add, remove, replace, move and copy. Changes the document."""
    for step in patch:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        holder = _walk(document, way)
        match step["op"]:
            case "add":
                _add(holder, last, step["value"])
            case "remove":
                del holder[int(last) if isinstance(holder, list) else last]
            case "replace":
                holder[int(last) if isinstance(holder, list) else last] = step["value"]
            case "move" | "copy":
                *origin, name = [part.replace("~1", "/").replace("~0", "~") for part in step["from"].split("/")[1:]]
                source = _walk(document, origin)
                key = int(name) if isinstance(source, list) else name
                value = source.pop(key) if step["op"] == "move" else source[key]
                _add(_walk(document, way), last, value)
    return document


def _walk(document: Any, way: list[str]) -> Any:
    for part in way:
        document = document[int(part) if isinstance(document, list) else part]
    return document


def _add(holder: Any, last: str, value: Any) -> None:
    if isinstance(holder, list):
        holder.insert(len(holder) if last == "-" else int(last), value)
    else:
        holder[last] = value
