"""Intents of open business systems: what the button of a message template can call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

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
from contracts.json_values import same_json
from contracts.rejection import Rejection
from contracts.rejections import (
    NAMED_TEMPLATES_LIMIT,
    BusinessSystemUnknown,
    DecisionTimedOut,
    DefaultDataBreaksSchema,
    IntentAlreadyAdded,
    IntentInUse,
    IntentNeedsBusinessSystem,
    IntentSchemaInvalid,
    IntentUnknown,
    TemplateDoesNotRefer,
    TemplateRefersAlready,
    TooManyIntents,
)
from services.domain.decision import NOTHING_CHANGES, Context, Decision, EventMetadata
from services.domain.json_schema import CHECK_DEADLINE_MS, CheckData
from services.domain.state import INTENTS_LIMIT, BusinessSystem, Channel, ChannelState, ImpossibleHistory, Intent
from services.domain.state_codec import too_large


def add(state: ChannelState, channel: Channel, command: AddIntent, context: Context) -> Decision | Rejection:
    system = state.system(command.system)
    if system is None:
        return IntentNeedsBusinessSystem(system=command.system)
    if command.code in system.intents:
        return IntentAlreadyAdded(system=command.system, code=command.code)
    if len(system.intents) >= INTENTS_LIMIT:
        return TooManyIntents(system=command.system, limit=INTENTS_LIMIT)
    intent = Intent(command.name, command.default_data, command.json_schema, (), channel.version + 1)
    refused = _breaks_schema(command.code, intent, context.check_data) or too_large(
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


def _breaks_schema(code: str, intent: Intent, check_data: CheckData) -> Rejection | None:
    """Whether the schema can be used, and the default data satisfies it."""
    if intent.json_schema is None:
        return None
    outcome, reason = check_data(intent.json_schema, intent.default_data)
    match outcome:
        case "valid":
            return None
        case "invalid-data":
            return DefaultDataBreaksSchema(code=code, reason=reason)
        case "unusable-schema":
            return IntentSchemaInvalid(code=code, reason=reason)
        case "timed-out":
            return DecisionTimedOut(limit_ms=CHECK_DEADLINE_MS)
        case _:
            assert_never(outcome)


def edit(state: ChannelState, channel: Channel, command: EditIntent, context: Context) -> Decision | Rejection:
    found = _find(state, command.system, command.code)
    if not isinstance(found, tuple):
        return found
    system, intent = found
    changed: dict[str, Any] = {}
    for field in ("name", "default_data", "json_schema"):
        if field in command.model_fields_set:
            value = getattr(command, field)
            value = {} if value is None and field == "default_data" else value
            if not same_json(value, getattr(intent, field)):
                changed[field] = value
    if not changed:
        return NOTHING_CHANGES
    edited = replace(intent, **changed, changed=channel.version + 1)
    if "json_schema" in changed and intent.templates and not command.force:
        return _in_use(command, intent)
    checked = changed.keys() == {"name"}  # when the intent was saved
    refused = None if checked else _breaks_schema(command.code, edited, context.check_data)
    refused = refused or too_large(command.system, _with_intent(system, command.code, edited), system)
    if refused is not None:
        return refused
    return Decision((IntentEdited(system=command.system, code=command.code, **changed),))


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


def added(state: ChannelState, channel: Channel, event: IntentAdded, metadata: EventMetadata) -> ChannelState:
    system = state.open_system(event.system)
    if event.code in system.intents:
        raise ImpossibleHistory(f"intent {event.code!r} of {event.system!r} is added already")
    intent = Intent(event.name, event.default_data, event.json_schema, (), metadata.version)
    return state.with_system(channel.after(metadata), event.system, _with_new_intent(system, event.code, intent))


def edited(state: ChannelState, channel: Channel, event: IntentEdited, metadata: EventMetadata) -> ChannelState:
    system = state.open_system(event.system)
    changes = {field: getattr(event, field) for field in event.model_fields_set - {"system", "code"}}
    intent = replace(_intent(system, event), **changes, changed=metadata.version)
    return state.with_system(channel.after(metadata), event.system, _with_intent(system, event.code, intent))


def deleted(state: ChannelState, channel: Channel, event: IntentDeleted, metadata: EventMetadata) -> ChannelState:
    system = state.open_system(event.system)
    _intent(system, event)
    intents = {code: intent for code, intent in system.intents.items() if code != event.code}
    deletions = system.deleted_intents.with_change(event.code, metadata.version)
    record = replace(system, intents=intents, deleted_intents=deletions)
    return state.with_system(channel.after(metadata), event.system, record)


def templates_changed(
    state: ChannelState, channel: Channel, event: IntentReferredTo | IntentReleased, metadata: EventMetadata
) -> ChannelState:
    system = state.open_system(event.system)
    intent = _intent(system, event)
    if isinstance(event, IntentReferredTo):
        intent = _with_template(intent, event.template, metadata.version)
    else:
        templates = tuple(template for template in intent.templates if template != event.template)
        intent = replace(intent, templates=templates, changed=metadata.version)
    return state.with_system(channel.after(metadata), event.system, _with_intent(system, event.code, intent))


def _intent(system: BusinessSystem, event: IntentEdited | IntentDeleted | IntentReferredTo | IntentReleased) -> Intent:
    intent = system.intents.get(event.code)
    if intent is None:
        raise ImpossibleHistory(f"business system {event.system!r} has no intent {event.code!r}")
    return intent
