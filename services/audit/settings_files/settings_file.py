"""A channel's settings as a YAML file that people keep in git, and the settings that such a file leads to.

What the file leaves out stays as it is. Where it has ``business_systems``, or a system's ``intents``, these are all of
them: one that the file does not list is deleted. Signatures are not in it: a secret cannot be put back from a file.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from contracts.envelope import validation_message
from contracts.ids import ChannelId
from contracts.names import same_name
from contracts.resources import CHANNEL
from contracts.section import SectionSettings
from contracts.settings import SECTIONS
from contracts.settings_diff import (
    BUSINESS_SYSTEM_FIELDS,
    BUSINESS_SYSTEMS,
    INTENTS,
    SIGNATURES,
    Leaves,
    Path,
    resource_leaves,
)
from services.audit.log.errors import AuditError
from services.audit.settings_files.strict_yaml import YamlError, dump, load
from services.audit.timeline.settings_at import SettingsAt
from services.domain.state import BUSINESS_SYSTEMS_LIMIT, INTENTS_LIMIT

_PLATFORM_FIELDS = {"provider", "home_country", "international_rates_from"}
"""What the platform states of one channel; null where there is none."""

LARGEST_FILE = 64 * 1024 * 1024


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_by_name=True, validate_by_alias=True)


class IntentPart(_Part):
    name: str
    default_data: dict[str, Any] = {}
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    templates: list[str] = []


class SystemPart(_Part):
    name: str
    api_request_url: str
    remarks: str = ""
    signature_style: Literal["standard-webhooks", "plain-token"] = "standard-webhooks"
    disabled: bool = False
    intents: dict[str, IntentPart] = {}


class SettingsFile(_Part):
    """``version`` is the channel's version that the file shows; without it a change since then goes unnoticed."""

    format: Literal[1] = 1
    channel: ChannelId | None = None
    version: Annotated[int, Field(ge=1, lt=10**15)] | None = None
    name: str | None = None
    provider: str | None = None
    home_country: str | None = None
    international_rates_from: dict[str, str] | None = None
    business_systems: dict[str, SystemPart] | None = None

    def sections(self) -> dict[str, _Part]:
        """The sections that the file has, by their field in `ChannelSettings`."""
        return {name: part for name in SECTIONS if (part := getattr(self, name, None)) is not None}


def _section_part(section: type[SectionSettings]) -> Any:
    """The model of a section in a file: every field is required, and a list is a list."""
    fields: dict[str, Any] = {name: (_file_type(field.annotation), ...) for name, field in section.model_fields.items()}
    return create_model(section.__name__, __base__=_Part, **fields)


def _file_type(annotation: Any) -> Any:
    return list.__class_getitem__(get_args(annotation)[0]) if get_origin(annotation) is tuple else annotation


_SECTION_FIELDS: dict[str, Any] = {name: (_section_part(section) | None, None) for name, section in SECTIONS.items()}
_SettingsFile = create_model("SettingsFile", __base__=SettingsFile, **_SECTION_FIELDS)


def parse(text: str) -> SettingsFile:
    """Raises `AuditError` with a sentence that names the place."""
    if len(text) > LARGEST_FILE:
        raise AuditError(f"The file is larger than {LARGEST_FILE:,} characters; no channel's settings are.")
    try:
        loaded = load(text)
    except YamlError as error:
        raise AuditError(f"The file cannot be read as YAML: {error}.") from None
    if not isinstance(loaded, dict):
        raise AuditError("The file must be a YAML mapping, as `switchboard settings export` writes it.")
    _check_limits(loaded.get("business_systems"))
    try:
        return _SettingsFile.model_validate(loaded)
    except ValidationError as error:
        # Authors of YAML know mappings, not the names of our classes.
        problem = re.sub(r"valid dictionary(?: or instance of \w+)?", "mapping", validation_message(error))
        raise AuditError(f"The file is not as it must be: {problem}") from None


def _check_limits(systems: Any) -> None:
    """Refuses at once what the decider would refuse after many commands."""
    if not isinstance(systems, dict):
        return
    if len(systems) > BUSINESS_SYSTEMS_LIMIT:
        raise AuditError(f"The file has {len(systems):,} business systems; at most {BUSINESS_SYSTEMS_LIMIT} fit.")
    for name, system in systems.items():
        intents = system.get("intents") if isinstance(system, dict) else None
        if isinstance(intents, dict) and len(intents) > INTENTS_LIMIT:
            raise AuditError(
                f"Business system {name!r} has {len(intents):,} intents in the file; at most {INTENTS_LIMIT} fit."
            )


def target_leaves(file: SettingsFile, current: Leaves, *, as_itself: bool) -> Leaves:
    """The leaves of a channel that is as the file says. ``as_itself``: its name and what the platform states
    of it are the file's too."""
    given = file.model_fields_set
    result = dict(current)
    if as_itself:
        if "name" in given:
            _set_name(result, (CHANNEL, "name"), file.name)
        for field in _PLATFORM_FIELDS & given:
            result[CHANNEL, field] = getattr(file, field) or None
    for name, part in file.sections().items():
        section = SECTIONS[name].model_validate(part.model_dump()).canonical()
        result |= resource_leaves(section.resource, section.model_dump(mode="json"))
    if file.business_systems is not None:
        for path in [path for path in result if path[0] == BUSINESS_SYSTEMS and path[1] not in file.business_systems]:
            del result[path]
        for name, system in file.business_systems.items():
            _set_system(result, (BUSINESS_SYSTEMS, name), system)
    return result


def _set_system(result: Leaves, system_path: Path, system: SystemPart) -> None:
    exists = system_path in result
    result[system_path] = True
    for field in BUSINESS_SYSTEM_FIELDS:
        if not exists or field in system.model_fields_set:
            if field == "name":
                _set_name(result, (*system_path, field), system.name)
            else:
                result[*system_path, field] = getattr(system, field)
    if "intents" in system.model_fields_set:
        for path in [path for path in result if path[:2] == system_path and path[2:3] == (INTENTS,)]:
            if path[3] not in system.intents:
                del result[path]
    for code, intent in system.intents.items():
        _set_intent(result, (*system_path, INTENTS, code), intent)


def _set_intent(result: Leaves, intent_path: Path, intent: IntentPart) -> None:
    exists = intent_path in result
    result[intent_path] = True
    if not exists or "name" in intent.model_fields_set:
        _set_name(result, (*intent_path, "name"), intent.name)
    for field, value in (
        ("default_data", intent.default_data),
        ("json_schema", intent.json_schema),
        ("templates", sorted(set(intent.templates))),
    ):
        if not exists or field in intent.model_fields_set:
            result[*intent_path, "schema" if field == "json_schema" else field] = value


def _set_name(result: Leaves, path: Path, name: str | None) -> None:
    """An editor may write another normal form, or spaces at the ends: the decider keeps the same name."""
    current = result.get(path)
    if name is None or not isinstance(current, str) or not same_name(name, current):
        result[path] = name


def export(answer: SettingsAt, leaves: Leaves) -> str:
    """The file of a channel as it was read; applied at once, it would change nothing."""
    settings = answer.settings
    if settings is None:
        raise AuditError(f"The log holds no event of channel {answer.channel!r}.")
    systems: dict[str, Any] = {}
    for path, value in leaves.items():
        if path[0] != BUSINESS_SYSTEMS or SIGNATURES in path[2:3]:
            continue
        part = systems.setdefault(path[1], {})
        if len(path) > 3:
            part = part.setdefault(INTENTS, {}).setdefault(path[3], {})
        if len(path) in (3, 5):
            part[path[-1]] = value
    for system in systems.values():
        system.setdefault(INTENTS, {})
    document = {
        "format": 1,
        "channel": answer.channel,
        "version": settings.version,
        "name": settings.name,
        "provider": settings.provider,
        "home_country": settings.home_country,
        "international_rates_from": settings.international_rates_from,
        **{name: getattr(settings, name).model_dump(mode="json") for name in SECTIONS},
        "business_systems": systems,
    }
    head = (
        f"# The settings of channel {answer.channel} ({settings.channel_type}) of account {settings.account}, "
        f"read from\n"
        f"# the log up to {answer.read_to}; its last event is at {answer.position}.\n"
        "# Put back with: switchboard settings apply FILE. What is left out stays; a business system or intent that\n"
        "# is not listed is deleted. Delete the line `version` to apply it over changes made since.\n"
    )
    return head + dump(document)


def with_version(text: str, version: int) -> str:
    """The file's text with its version line brought up to date, all else untouched; the same where it has none."""
    return re.sub(r"(?m)^version:[ \t]*\d+(?=[ \t]*(#.*)?\r?$)", f"version: {version}", text, count=1)
