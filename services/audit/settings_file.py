"""A channel's settings as a YAML file that people keep in git, and what such a file wants of a channel.

What the file leaves out stays as it is. Where it has ``business_systems``, or a system's ``intents``, these are all of
them: one that the file does not list is deleted. Signatures are not in it: a secret cannot be put back from a file.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.envelope import problem_of
from contracts.ids import ChannelId
from services.audit.as_of import Then
from services.audit.leaves import (
    CHANNEL,
    INTENTS,
    OTP_SCHEDULING,
    SIGNATURES,
    SMS,
    SYSTEMS,
    Leaves,
    Path,
)
from services.audit.log import AuditError
from services.audit.strict_yaml import YamlError, dump, load

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


class SmsPart(_Part):
    enabled: bool


class OtpSchedulingPart(_Part):
    enabled: bool
    countries: list[str]
    use_own_numbers: bool


class SettingsFile(_Part):
    """``version`` is the channel's version that the file shows; without it a change since then goes unnoticed."""

    format: Literal[1] = 1
    channel: ChannelId | None = None
    version: Annotated[int, Field(ge=1, lt=10**15)] | None = None
    name: str | None = None
    provider: str | None = None
    sms: SmsPart | None = None
    otp_scheduling: OtpSchedulingPart | None = None
    business_systems: dict[str, SystemPart] | None = None


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
    try:
        return SettingsFile.model_validate(loaded)
    except ValidationError as error:
        # To who writes YAML it is a mapping, and the names of our classes say nothing.
        problem = re.sub(r"valid dictionary(?: or instance of \w+)?", "mapping", problem_of(error))
        raise AuditError(f"The file is not as it must be: {problem}") from None


def wanted(file: SettingsFile, current: Leaves, *, as_itself: bool) -> Leaves:
    """The leaves of a channel that is as the file wants it. ``as_itself``: its name and provider are the file's too."""
    given = file.model_fields_set
    result = dict(current)
    if as_itself:
        if "name" in given:
            result[CHANNEL, "name"] = file.name
        if "provider" in given:
            result[CHANNEL, "provider"] = file.provider
    if file.sms is not None:
        result[SMS, "enabled"] = file.sms.enabled
    if file.otp_scheduling is not None:
        form = file.otp_scheduling
        countries = sorted(set(form.countries))
        result[OTP_SCHEDULING,] = form.model_dump() | {"countries": countries}
    if file.business_systems is not None:
        for path in [path for path in result if path[0] == SYSTEMS and path[1] not in file.business_systems]:
            del result[path]
        for name, system in file.business_systems.items():
            _want_system(result, (SYSTEMS, name), system)
    return result


def _want_system(result: Leaves, here: Path, system: SystemPart) -> None:
    known = here in result
    result[here] = True
    for field in ("name", "api_request_url", "remarks", "signature_style", "disabled"):
        if not known or field in system.model_fields_set:
            result[*here, field] = getattr(system, field)
    if "intents" in system.model_fields_set:
        for path in [path for path in result if path[:2] == here and path[2:3] == (INTENTS,)]:
            if path[3] not in system.intents:
                del result[path]
    for code, intent in system.intents.items():
        _want_intent(result, (*here, INTENTS, code), intent)


def _want_intent(result: Leaves, here: Path, intent: IntentPart) -> None:
    known = here in result
    result[here] = True
    for field, value in (
        ("name", intent.name),
        ("default_data", intent.default_data),
        ("json_schema", intent.json_schema),
        ("templates", sorted(set(intent.templates))),
    ):
        if not known or field in intent.model_fields_set:
            result[*here, "schema" if field == "json_schema" else field] = value


def exported(then: Then, leaves: Leaves) -> str:
    """The file of a channel as it was read; applied at once, it would change nothing."""
    settings = then.settings
    if settings is None:
        raise AuditError(f"The log holds no event of channel {then.channel!r}.")
    systems: dict[str, Any] = {}
    for path, value in leaves.items():
        if path[0] != SYSTEMS or SIGNATURES in path[2:3]:
            continue
        place = systems.setdefault(path[1], {})
        if len(path) > 3:
            place = place.setdefault(INTENTS, {}).setdefault(path[3], {})
        if len(path) in (3, 5):
            place[path[-1]] = value
    for system in systems.values():
        system.setdefault(INTENTS, {})
    document = {
        "format": 1,
        "channel": then.channel,
        "version": settings.version,
        "name": settings.name,
        "provider": settings.provider,
        "sms": {"enabled": settings.sms.enabled},
        "otp_scheduling": leaves[OTP_SCHEDULING,],
        "business_systems": systems,
    }
    head = (
        f"# The settings of channel {then.channel} ({settings.channel_type}) of account {settings.account}, read from\n"
        f"# the log up to {then.read_to}; its last event is at {then.position}.\n"
        "# Put back with: switchboard settings apply FILE. What is left out stays; a business system or intent that\n"
        "# is not listed is deleted. Delete the line `version` to apply it over changes made since.\n"
    )
    return head + dump(document)


def with_version(text: str, version: int) -> str:
    """The file's text with its version line brought up to date, all else untouched; the same where it has none."""
    return re.sub(r"(?m)^version:[ \t]*\d+(?=[ \t]*(#.*)?$)", f"version: {version}", text, count=1)
