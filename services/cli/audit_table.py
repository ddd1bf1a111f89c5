"""The audit log as a table that can be read in 80 columns: when and where in the log; what, who, before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from contracts.json_values import same_json
from contracts.settings_diff import ONE_LEAF
from services.audit.timeline.audit_log import AuditEntry
from services.cli.output import console, printable

_LONGEST_VALUE = 60
_CHANGES_SHOWN = 12
_ABSENT = "–"


def print_table(entries: Sequence[AuditEntry]) -> None:
    table = Table("When, and where in the log", "What, who, from where, before → after", box=box.HORIZONTALS)
    table.show_lines = True
    table.columns[0].no_wrap = True
    table.columns[1].overflow = "fold"
    for entry in entries:
        when = entry.time.replace("T", " ").removesuffix("Z")
        where = str(entry.position).removeprefix("switchboard.")
        # As `Text`, what comes from outside is neither markup nor an emoji's name.
        table.add_row(Text(f"{when}\n{where}"), Text(printable("\n".join(_describe(entry)))))
    console().print(table)


def _describe(entry: AuditEntry) -> Iterator[str]:
    what = entry.type if entry.rejection is None else f"{entry.command or '?'} rejected: {entry.rejection}"
    repeated = ", again" if entry.repeated else ""
    yield f"{what}{repeated}, by {entry.actor or 'an unknown actor'}, from {entry.source or 'an unknown source'}"
    version = "" if entry.version is None else f", version {entry.version}"
    resource = "" if entry.resource in (None, "channel") else f", {entry.resource}"
    yield f"{entry.channel} of {entry.account}{version}{resource}"
    if entry.message is not None:
        yield entry.message
    changes = list(_changes(entry))
    for name, was, becomes in changes[:_CHANGES_SHOWN]:
        yield f"  {name}: {was} → {becomes}"
    if len(changes) > _CHANGES_SHOWN:
        yield f"  … and {len(changes) - _CHANGES_SHOWN} more"


def _changes(entry: AuditEntry) -> Iterator[tuple[str, str, str]]:
    """(name, before, after), named from the entry's resource on; that the resource came or went, its type says."""
    was, becomes = entry.before or {}, entry.after or {}
    resource = entry.resource or ""
    prefix = resource.removesuffix("/signature") + "/"
    for path in sorted(was.keys() | becomes.keys()):
        one, other = was.get(path), becomes.get(path)
        if path in ONE_LEAF and one and other:
            for name in one:
                if not same_json(one[name], other[name]):
                    yield name, _short(one[name]), _short(other[name])
        elif path != resource or path in ONE_LEAF:
            before, after = (_short(values[path]) if path in values else _ABSENT for values in (was, becomes))
            yield path.removeprefix(prefix), before, after


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
