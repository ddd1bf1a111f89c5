"""Plans the commands from the current settings to the target, in an order in which none blocks another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from pydantic import ValidationError

from contracts.business_system import (
    DeleteBusinessSystem,
    DisableBusinessSystem,
    EditBusinessSystem,
    EnableBusinessSystem,
    OpenBusinessSystem,
)
from contracts.channel import EditChannel
from contracts.envelope import validation_message
from contracts.intent import AddIntent, DeleteIntent, EditIntent, ReferToIntent, ReleaseIntent
from contracts.message import CommandData, EventData
from contracts.message_types import Command
from contracts.rejection import Rejection
from contracts.resources import CHANNEL
from contracts.section import SectionSettings
from contracts.settings import SECTIONS
from contracts.settings_diff import (
    BUSINESS_SYSTEM_FIELDS,
    BUSINESS_SYSTEMS,
    CHANNEL_FIELDS,
    INTENT_FIELDS,
    INTENTS,
    ONE_LEAF,
    SIGNATURES,
    Leaves,
    Path,
    diff,
)
from services.audit.log.errors import AuditError
from services.audit.log.recorded_event import open_systems
from services.audit.settings_files.name_order import in_order_of_names
from services.domain.decide import decide
from services.domain.decision import Context, EventMetadata
from services.domain.evolve import evolve
from services.domain.state import ChannelState
from services.domain.url_policy import Allowlist
from services.domain.url_target import target_of


@dataclass(frozen=True, slots=True)
class Permission:
    """What a person must confirm: ``force`` where templates refer to what changes, and the acknowledgement that
    sending from own numbers may incur international rates."""

    force: bool = False
    international_rates_acknowledged: bool = False


def plan(current: Leaves, target: Leaves, permission: Permission) -> list[CommandData]:
    """Empty where nothing differs. Raises `AuditError` where the target breaks the contract."""
    differing = {path for path in diff(current, target) if path[-1] != SIGNATURES}
    if (CHANNEL, "retired") in differing:
        raise AuditError("A channel is retired for good; no command brings one back, or retires one unasked.")
    commands = [
        *_channel(differing, target),
        *_deletions(differing, target, permission),
        *_systems(differing, current, target),
        *_intents(differing, current, target, permission),
    ]
    commands += [
        _save_section(section, target, permission)
        for section in SECTIONS.values()
        if any(path[0] == section.resource for path in differing)
    ]
    return commands


def _save_section(section: type[SectionSettings], target: Leaves, permission: Permission) -> CommandData:
    try:
        command = section.model_validate(section_fields(section, target)).save_command()
    except ValidationError as error:
        raise AuditError(f"{error.title}: {validation_message(error)}") from None
    if permission.international_rates_acknowledged and "international_rates_acknowledged" in type(command).model_fields:
        return command.model_copy(update={"international_rates_acknowledged": True})
    return command


def section_fields(section: type[SectionSettings], leaves: Leaves) -> dict[str, Any]:
    """A section's fields, from its leaves."""
    if section.resource in ONE_LEAF:
        return dict(leaves[section.resource,])
    return {field: leaves[section.resource, field] for field in section.model_fields}


def _made(kind: type[CommandData], **data: Any) -> CommandData:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        about = "/".join(str(data[key]) for key in ("system", "code") if key in data)
        raise AuditError(f"{kind.__name__}{f' of {about}' if about else ''}: {validation_message(error)}") from None


def _channel(differing: set[Path], target: Leaves) -> Iterable[CommandData]:
    fields = {field: target[CHANNEL, field] for field in CHANNEL_FIELDS if (CHANNEL, field) in differing}
    if fields:
        yield _made(EditChannel, **fields)


def _deletions(differing: set[Path], target: Leaves, permission: Permission) -> Iterable[CommandData]:
    forced = {"force": True} if permission.force else {}
    gone = sorted(
        path for path in differing if path[0] == BUSINESS_SYSTEMS and len(path) in (2, 4) and path not in target
    )
    for path in gone:
        if len(path) == 2:
            yield _made(DeleteBusinessSystem, system=path[1], **forced)
        elif path[:2] in target:
            yield _made(DeleteIntent, system=path[1], code=path[3], **forced)


def _systems(differing: set[Path], current: Leaves, target: Leaves) -> Iterable[CommandData]:
    systems = sorted({path[1] for path in differing if path[0] == BUSINESS_SYSTEMS and path[:2] in target})
    for system, temporary_name in in_order_of_names(systems, _names(current, target), _names(target, target)):
        if temporary_name is not None:
            yield _made(EditBusinessSystem, system=system, name=temporary_name)
            continue
        system_path = (BUSINESS_SYSTEMS, system)
        fields = {
            field: target[*system_path, field] for field in BUSINESS_SYSTEM_FIELDS if (*system_path, field) in differing
        }
        disabled = fields.pop("disabled", None)
        if system_path not in current:
            yield _made(OpenBusinessSystem, system=system, **fields)
        elif fields:
            yield _made(EditBusinessSystem, system=system, **fields)
        if disabled is True:
            yield _made(DisableBusinessSystem, system=system)
        elif disabled is False and system_path in current:
            yield _made(EnableBusinessSystem, system=system)


def _names(leaves: Leaves, target: Leaves) -> dict[str, str]:
    """The names of the business systems in ``leaves`` that stay."""
    return {
        path[1]: name
        for path, name in leaves.items()
        if path[0] == BUSINESS_SYSTEMS and len(path) == 3 and path[2] == "name" and path[:2] in target
    }


def _intents(differing: set[Path], current: Leaves, target: Leaves, permission: Permission) -> Iterable[CommandData]:
    paths = sorted({path[:4] for path in differing if len(path) >= 4 and path[2] == INTENTS and path[:4] in target})
    for intent_path in paths:
        _, system, _, code = intent_path
        fields = {field: target[*intent_path, field] for field in INTENT_FIELDS if (*intent_path, field) in differing}
        templates = fields.pop("templates", None)
        if intent_path not in current:
            yield _made(AddIntent, system=system, code=code, **fields)
        elif fields:
            forced = {"force": True} if permission.force and "schema" in fields else {}
            yield _made(EditIntent, system=system, code=code, **fields, **forced)
        if templates is not None:
            has = current.get((*intent_path, "templates"), [])
            for template in sorted(set(has) - set(templates)):
                yield _made(ReleaseIntent, system=system, code=code, template=template)
            for template in sorted(set(templates) - set(has)):
                yield _made(ReferToIntent, system=system, code=code, template=template)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What the commands would do one after the other: the events of each that would be accepted, and why the next one
    would not."""

    events: tuple[tuple[EventData, ...], ...]
    refused: tuple[CommandData, Rejection] | None
    state: ChannelState


def rehearse(channel: str, state: ChannelState, commands: list[CommandData], now: int) -> Rehearsal:
    """Decided and folded by the domain's own rules, on what was read; nothing is sent.

    Where API Request URLs may lead is judged by the decider: only their form is checked here.
    """
    registered = state.channel
    if registered is None:
        raise AuditError(f"Channel {channel!r} is not registered.")
    allowlist = _all_allowed(commands)
    done: list[tuple[EventData, ...]] = []
    for command in commands:
        clock = max(now, registered.time)
        context = Context(channel, registered.account, clock, bytes(32), allowlist)
        decision = decide(state, cast("Command", command), context)
        if isinstance(decision, Rejection):
            return Rehearsal(tuple(done), (command, decision), state)
        for event in decision.events:
            version = 1 if state.channel is None else state.channel.version + 1
            mark = EventMetadata(version, clock, sha256(str(version).encode()).hexdigest())
            state = evolve(state, event, registered.account, mark)
        done.append(decision.events)
    return Rehearsal(tuple(done), None, state)


def valid_key_ids(state: ChannelState, now: int) -> dict[str, list[str]]:
    """Business system -> the ids of its valid signatures, the current one first."""
    return {
        name: [one.key_id for one in record.signatures if one.is_valid(now)]
        for name, record in open_systems(state).items()
    }


def signature_effects(current: ChannelState, reached: ChannelState, now: int) -> list[str]:
    """Sentences on the secrets that a plan deletes for good, and on the signatures that it issues."""
    has, will = valid_key_ids(current, now), valid_key_ids(reached, max(now, _time(reached)))
    sentences = []
    for system in sorted(has.keys() | will.keys()):
        gone = [key for key in has.get(system, ()) if key not in will.get(system, ())]
        if gone:
            sentences.append(f"Would delete the secret of {', '.join(gone)} of business system {system!r} for good.")
        if any(key not in has.get(system, ()) for key in will.get(system, ())):
            sentences.append(f"Would issue a new signature of business system {system!r}; give it to the receiver.")
    return sentences


def _time(state: ChannelState) -> int:
    return 0 if state.channel is None else state.channel.time


def _all_allowed(commands: Iterable[CommandData]) -> Allowlist:
    origins = []
    for command in commands:
        target = target_of(getattr(command, "api_request_url", None) or "")
        if not isinstance(target, str):
            origins.append(f"[{target.host}]:{target.port}")
    return Allowlist.parse(origins)
