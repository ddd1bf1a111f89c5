"""Reverts a change of settings and keeps later changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts.json_values import same_json
from contracts.settings_diff import BUSINESS_SYSTEMS, INTENTS, MISSING, SIGNATURES, Leaves, Path, diff


@dataclass(frozen=True, slots=True)
class MergeResult:
    """The result of a three-way merge: ``target``, and the paths that somebody changed since, with what they hold."""

    target: Leaves
    conflicts: dict[Path, Any]


def three_way_merge(before: Leaves, after: Leaves, current: Leaves) -> MergeResult:
    """``current`` with the change from ``before`` to ``after`` taken back, and everything else left as it is."""
    target, conflicts = dict(current), {}
    for path, (was, became) in diff(before, after).items():
        if path[-1] == SIGNATURES:
            continue
        is_now = current.get(path, MISSING)
        if same_json(is_now, was):
            continue
        if not same_json(is_now, became):
            conflicts[path] = is_now
        elif was is MISSING:
            del target[path]
        else:
            target[path] = was
    for path in target:
        # What was added below a thing that goes, or changed below one that is gone, would go or come unasked.
        if path[-1] != SIGNATURES and any(parent not in target for parent in _parents(path)):
            conflicts[path] = target[path]
    return MergeResult(target, conflicts)


def _parents(path: Path) -> list[Path]:
    if path[0] != BUSINESS_SYSTEMS:
        return []
    return [path[:length] for length in (2, 4) if length < len(path) and (length == 2 or path[2] == INTENTS)]
