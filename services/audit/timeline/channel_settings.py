"""The settings of a channel as the API shows them, from the state that its events fold to."""

from __future__ import annotations

from contracts.message import rfc3339
from contracts.resources import CHANNEL
from contracts.settings import BusinessSystemSettings, ChannelSettings, IntentSettings, SignatureSettings
from contracts.settings_diff import (
    INTENTS,
    Leaves,
    business_system_leaves,
    intent_leaves,
    leaves_of,
    resource_leaves,
)
from services.audit.log.recorded_event import open_systems
from services.domain.state import BusinessSystem, ChannelState, Intent


def channel_settings(channel: str, state: ChannelState, now: int) -> ChannelSettings | None:
    """None where the channel is not registered; ``now`` (Unix milliseconds) decides which signatures are valid."""
    registered = state.channel
    if registered is None:
        return None
    return ChannelSettings(
        channel=channel,
        account=registered.account,
        channel_type=registered.channel_type,
        name=registered.name,
        provider=registered.provider,
        retired=registered.retired,
        home_country=registered.home_country,
        international_rates_from=registered.international_rates_from,
        version=registered.version,
        business_systems=tuple(_system(name, system, now) for name, system in open_systems(state).items()),
        **registered.sections(),
    )


def state_leaves(state: ChannelState, now: int) -> Leaves:
    """Every leaf of the settings; none where the channel is not registered."""
    settings = channel_settings("", state, now)
    return {} if settings is None else leaves_of(settings)


def affected_leaves(state: ChannelState, resource: str, now: int) -> Leaves:
    """The leaves that an event of the resource can have changed."""
    if resource == CHANNEL or state.channel is None:
        return state_leaves(state, now)
    match resource.split("/"):
        case [_]:
            return next(
                resource_leaves(resource, section.model_dump(mode="json"))
                for section in state.channel.sections().values()
                if section.resource == resource
            )
        case [_, name, *below]:
            system = state.system(name)
            if system is None:
                return {}
            if below[:1] == [INTENTS]:
                intent = system.intents.get(below[1])
                return {} if intent is None else intent_leaves(name, _intent(below[1], intent))
            return business_system_leaves(_system(name, system, now))
        case _:
            return {}


def _system(name: str, system: BusinessSystem, now: int) -> BusinessSystemSettings:
    return BusinessSystemSettings(
        system=name,
        name=system.name,
        api_request_url=system.api_request_url,
        remarks=system.remarks,
        signature_style=system.signature_style,
        disabled=system.disabled,
        signatures=tuple(
            SignatureSettings(
                key_id=signature.key_id,
                fingerprint=signature.fingerprint,
                issued_at=rfc3339(signature.issued_at),
                valid_until=None if signature.valid_until is None else rfc3339(signature.valid_until),
            )
            for signature in system.signatures
            if signature.is_valid(now)
        ),
        intents=tuple(_intent(code, intent) for code, intent in sorted(system.intents.items())),
    )


def _intent(code: str, intent: Intent) -> IntentSettings:
    return IntentSettings(
        code=code,
        name=intent.name,
        default_data=intent.default_data,
        json_schema=intent.json_schema,
        templates=intent.templates,
    )
