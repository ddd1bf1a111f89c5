"""The order in which business systems get new names: no two of a channel may have the same name at any time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


def in_order_of_names(
    systems: Sequence[str], current: Mapping[str, str], target: Mapping[str, str]
) -> Iterator[tuple[str, str | None]]:
    """Yields each system when its target name is free, before that with a temporary name where names go in a circle.

    A name that a system outside of ``systems`` keeps is nobody's to free: the decider refuses the command.
    """
    names, waiting = dict(current), list(systems)
    while waiting:
        holders = {name: system for system, name in names.items() if system in waiting}
        ready = next((one for one in waiting if holders.get(target[one], one) == one), None)
        if ready is None:
            holder = holders[target[waiting[0]]]
            names[holder] = _free_name(holder, {*names.values(), *target.values()})
            yield holder, names[holder]
        else:
            waiting.remove(ready)
            names[ready] = target[ready]
            yield ready, None


def _free_name(system: str, taken: set[str]) -> str:
    name, number = system, 2
    while name in taken:
        name, number = f"{system}-{number}", number + 1
    return name
