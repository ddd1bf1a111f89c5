"""Intents: what a message template's button can call; only under an open business system."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from contracts.intent import (
    AddIntent,
    DeleteIntent,
    EditIntent,
    IntentAdded,
    IntentDeleted,
    IntentEdited,
    IntentReferredTo,
    IntentReleased,
    ReferToIntent,
    ReleaseIntent,
)
from contracts.rejections import (
    NAMED_TEMPLATES_LIMIT,
    BusinessSystemUnknown,
    DefaultDataBreaksSchema,
    IntentAlreadyAdded,
    IntentInUse,
    IntentNeedsBusinessSystem,
    IntentSchemaInvalid,
    IntentUnknown,
    Rejection,
    TemplateDoesNotRefer,
    TemplateRefersAlready,
    TooManyIntents,
)
from services.domain.decision import NOTHING_CHANGES, Decision, Mark
from services.domain.json_schema import SchemaUnusable, problem_of_data
from services.domain.records import too_large
from services.domain.state import INTENTS_LIMIT, BusinessSystem, Channel, ChannelState, Intent


def add(state: ChannelState, channel: Channel, command: AddIntent) -> Decision | Rejection:
    system = state.system(command.system)
    if system is None:
        return IntentNeedsBusinessSystem(system=command.system)
    if command.code in system.intents:
        return IntentAlreadyAdded(system=command.system, code=command.code)
    if len(system.intents) >= INTENTS_LIMIT:
        return TooManyIntents(system=command.system, limit=INTENTS_LIMIT)
    intent = Intent(command.name, command.default_data, command.json_schema, (), channel.version + 1)
    refused = _breaks_schema(command.code, intent) or too_large(
        command.system, _with_new_intent(system, command.code, intent), system
    )
    if refused is not None:
        return refused
    return Decision(
        (
            IntentAdded(
                system=command.system,
                code=command.code,
                name=command.name,
                default_data=command.default_data,
                json_schema=command.json_schema,
            ),
        )
    )


def _breaks_schema(code: str, intent: Intent) -> Rejection | None:
    """Whether the schema can be used, and the default data satisfies it."""
    if intent.json_schema is None:
        return None
    try:
        problem = problem_of_data(intent.json_schema, intent.default_data)
    except SchemaUnusable as unusable:
        return IntentSchemaInvalid(code=code, reason=str(unusable))
    return None if problem is None else DefaultDataBreaksSchema(code=code, reason=problem)


def edit(state: ChannelState, channel: Channel, command: EditIntent) -> Decision | Rejection:
    found = _find(state, command.system, command.code)
    if not isinstance(found, tuple):
        return found
    system, intent = found
    changed: dict[str, Any] = {}
    for field in ("name", "default_data", "json_schema"):
        if field in command.model_fields_set:
            wanted = getattr(command, field)
            wanted = {} if wanted is None and field == "default_data" else wanted
            if not _same_json(wanted, getattr(intent, field)):
                changed[field] = wanted
    if not changed:
        return NOTHING_CHANGES
    edited = replace(intent, **changed, changed=channel.version + 1)
    if "json_schema" in changed and intent.templates and not command.force:
        return _in_use(command, intent)
    refused = _breaks_schema(command.code, edited) or too_large(
        command.system, _with_intent(system, command.code, edited), system
    )
    if refused is not None:
        return refused
    return Decision((IntentEdited(system=command.system, code=command.code, **changed),))


def _same_json(one: object, other: object) -> bool:
    """Equal as JSON: to Python, 1, 1.0 and true are equal too."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same_json(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same_json, one, other))
    return type(one) is type(other) and one == other


def _find(state: ChannelState, name: str, code: str) -> tuple[BusinessSystem, Intent] | Rejection:
    system = state.system(name)
    if system is None:
        return BusinessSystemUnknown(system=name)
    intent = system.intents.get(code)
    return IntentUnknown(system=name, code=code) if intent is None else (system, intent)


def delete(state: ChannelState, command: DeleteIntent) -> Decision | Rejection:
    found = _find(state, command.system, command.code)
    if not isinstance(found, tuple):
        return found
    _, intent = found
    if intent.templates and not command.force:
        return _in_use(command, intent)
    return Decision((IntentDeleted(system=command.system, code=command.code),))


def _in_use(command: EditIntent | DeleteIntent, intent: Intent) -> Rejection:
    named = list(intent.templates[:NAMED_TEMPLATES_LIMIT])
    return IntentInUse(
        system=command.system, code=command.code, templates=named, more=len(intent.templates) - len(named)
    )


def refer(state: ChannelState, channel: Channel, command: ReferToIntent) -> Decision | Rejection:
    found = _find(state, command.system, command.code)
    if not isinstance(found, tuple):
        return found
    system, intent = found
    if command.template in intent.templates:
        return TemplateRefersAlready(system=command.system, code=command.code, template=command.template)
    referred = _with_template(intent, command.template, channel.version + 1)
    refused = too_large(command.system, _with_intent(system, command.code, referred), system)
    if refused is not None:
        return refused
    return Decision((IntentReferredTo(system=command.system, code=command.code, template=command.template),))


def release(state: ChannelState, command: ReleaseIntent) -> Decision | Rejection:
    found = _find(state, command.system, command.code)
    if not isinstance(found, tuple):
        return found
    _, intent = found
    if command.template not in intent.templates:
        return TemplateDoesNotRefer(system=command.system, code=command.code, template=command.template)
    return Decision((IntentReleased(system=command.system, code=command.code, template=command.template),))


def _with_intent(system: BusinessSystem, code: str, intent: Intent) -> BusinessSystem:
    return replace(system, intents={**system.intents, code: intent})


def _with_new_intent(system: BusinessSystem, code: str, intent: Intent) -> BusinessSystem:
    return _with_intent(replace(system, deleted_intents=system.deleted_intents.without(code)), code, intent)


def _with_template(intent: Intent, template: str, version: int) -> Intent:
    return replace(intent, templates=tuple(sorted({*intent.templates, template})), changed=version)


def added(state: ChannelState, channel: Channel, event: IntentAdded, mark: Mark) -> ChannelState:
    system = state.system(event.system)
    if system is None:
        return state
    intent = Intent(event.name, event.default_data, event.json_schema, (), mark.version)
    return state.with_system(channel, event.system, _with_new_intent(system, event.code, intent))


def edited(state: ChannelState, channel: Channel, event: IntentEdited, mark: Mark) -> ChannelState:
    system = state.system(event.system)
    if system is None:
        return state
    changes = {field: getattr(event, field) for field in event.model_fields_set - {"system", "code"}}
    intent = replace(system.intents[event.code], **changes, changed=mark.version)
    return state.with_system(channel, event.system, _with_intent(system, event.code, intent))


def deleted(state: ChannelState, channel: Channel, event: IntentDeleted, mark: Mark) -> ChannelState:
    system = state.system(event.system)
    if system is None:
        return state
    intents = {code: intent for code, intent in system.intents.items() if code != event.code}
    deletions = system.deleted_intents.with_change(event.code, mark.version)
    return state.with_system(channel, event.system, replace(system, intents=intents, deleted_intents=deletions))


def templates_changed(
    state: ChannelState, channel: Channel, event: IntentReferredTo | IntentReleased, mark: Mark
) -> ChannelState:
    system = state.system(event.system)
    if system is None:
        return state
    intent = system.intents[event.code]
    if isinstance(event, IntentReferredTo):
        intent = _with_template(intent, event.template, mark.version)
    else:
        kept = tuple(template for template in intent.templates if template != event.template)
        intent = replace(intent, templates=kept, changed=mark.version)
    return state.with_system(channel, event.system, _with_intent(system, event.code, intent))
