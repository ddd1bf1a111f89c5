"""YAML as people mean it in a file of settings: it holds what JSON can hold, and nothing is guessed.

A plain word is a text, so NO is Norway and 2026-11-22 no date; only ``true``, ``false``, ``null``, ``~``, nothing at
all, and what JSON itself takes for a number are something else. A key is always the text that it is. A number that
readers of YAML disagree on (010, 1_000, 0x1F, .5) must be quoted, or written as JSON has it. Whatever else YAML has
(aliases, tags of other types, several documents) is a mistake here.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

DEEPEST = 256
"""So many levels are read, more than JSON that the contract accepts can have (some 200)."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<fraction>\.[0-9]+)?(?P<exponent>[eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 4_301
"""A sign and as many digits as Python reads; JSON of the contract can have them."""
_LIKE_A_NUMBER = re.compile(
    r"[-+]?(?:\.[0-9_]+|[0-9][0-9_]*\.?[0-9_]*)(?:[eE][-+]?[0-9]+)?$"
    r"|[-+]?0[xob][0-9a-fA-F_]+$|[-+]?\.(?:inf|Inf|INF|nan|NaN|NAN)$"
)
_TAG = "tag:yaml.org,2002:"
_WORDS = {
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"),
    "null": re.compile(r"(?:~|null|Null|NULL|)$"),
    "float": _LIKE_A_NUMBER,
}
_FIRST = {"bool": "tTfF", "null": "~nN", "float": "-+.0123456789"}


class YamlError(ValueError):
    """The message is a sentence that names the place."""


class _Loader(yaml.BaseLoader):
    """Knows the types of JSON alone, which are added to it below."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _wrong("write out what the alias stands for", event)
        if self.depth == DEEPEST:
            raise _wrong(f"it is nested deeper than {DEEPEST} levels", event)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _mapping(loader: _Loader, node: yaml.Node) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise _wrong("it must be a mapping", node)
    found: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _wrong("a key must be a text", key)
        if key.value in found:
            raise _wrong(f"{key.value[:80]!r} is given twice", key)
        found[key.value] = loader.construct_object(value, deep=True)
    return found


def _sequence(loader: _Loader, node: yaml.Node) -> list[Any]:
    if not isinstance(node, yaml.SequenceNode):
        raise _wrong("it must be a list", node)
    return [loader.construct_object(value, deep=True) for value in node.value]


def _scalar(_: _Loader, node: yaml.Node) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        raise _wrong("it must be a single value", node)
    kind, text = node.tag.removeprefix(_TAG), str(node.value)
    if kind == "str":
        return text
    if kind in ("int", "float"):
        return _number(text, node)
    if not _WORDS[kind].match(text):
        raise _wrong(f"{text[:80]!r} is no {kind}", node)
    return None if kind == "null" else text.lower() == "true"


def _number(text: str, node: yaml.Node) -> int | float:
    found = _NUMBER.fullmatch(text)
    if found is None or len(text) > _LONGEST_NUMBER:
        raise _wrong(f"{text[:80]!r} is no number as JSON has it; a text that looks like one must be quoted", node)
    return float(text) if found["fraction"] or found["exponent"] else int(text)


def _unknown(_: _Loader, node: yaml.Node) -> Any:
    raise _wrong(f"the type {node.tag.removeprefix(_TAG)!r} is none that settings can hold", node)


def _wrong(what: str, where: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    mark: Any = where.start_mark
    return yaml.MarkedYAMLError(problem=what, problem_mark=mark)


for _kind, _pattern in _WORDS.items():
    _Loader.add_implicit_resolver(_TAG + _kind, _pattern, [*_FIRST[_kind], *([""] if _kind == "null" else [])])
for _kind in ("str", "bool", "null", "int", "float"):
    _Loader.add_constructor(_TAG + _kind, _scalar)
_Loader.add_constructor(_TAG + "map", _mapping)
_Loader.add_constructor(_TAG + "seq", _sequence)
_Loader.add_constructor(None, _unknown)


def load(text: str) -> Any:
    """The one document in the text. Raises `YamlError`."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 -- it makes nothing but the types of JSON
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        raise YamlError(f"{where}{' '.join((error.problem or str(error)).split())}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise YamlError(" ".join(str(error).split())) from None


class _Dumper(yaml.SafeDumper):
    """Quotes every text that `load` or a reader of YAML 1.1 would not read as text; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 -- the overridden method's own
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML folds lines at these breaks too when it quotes simply, and does not get them back.
    style = '"' if any(one in text for one in "\x85\u2028\u2029") else None
    return dumper.represent_scalar(_TAG + "str", text, style)


_Dumper.add_representer(str, _text)
_Dumper.add_implicit_resolver(_TAG + "float", _WORDS["float"], list(_FIRST["float"]))


def dump(document: dict[str, Any] | list[Any]) -> str:
    """The document as YAML, in the order that it has; `load` reads the same from it."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
