"""OTP delivery scheduling: saved as a whole, on WhatsApp channels only."""

from __future__ import annotations

from contracts.otp_scheduling import OtpSchedulingSaved, SaveOtpScheduling
from contracts.rejection import Rejection
from contracts.rejections import (
    InternationalRatesNotAcknowledged,
    OtpSchedulingNeedsCountries,
    OtpSchedulingNeedsWhatsApp,
)
from services.domain.decision import NOTHING_CHANGES, Decision, EventMetadata
from services.domain.message_routing.shared_numbers import shared_number_notices
from services.domain.state import Channel, OtpScheduling


def save(channel: Channel, command: SaveOtpScheduling) -> Decision | Rejection:
    if channel.channel_type != "whatsapp":
        return OtpSchedulingNeedsWhatsApp(channel_type=channel.channel_type)
    settings = OtpScheduling(command.enabled, tuple(sorted(set(command.countries))), command.use_own_numbers)
    if settings.enabled and not settings.countries:
        return OtpSchedulingNeedsCountries()
    if settings == channel.otp_scheduling:
        return NOTHING_CHANGES
    newly_exposed = _own_number_countries(settings) - _own_number_countries(channel.otp_scheduling)
    if newly_exposed and not command.international_rates_acknowledged:
        return InternationalRatesNotAcknowledged(countries=sorted(newly_exposed))
    return Decision(
        (
            OtpSchedulingSaved(
                enabled=settings.enabled,
                countries=settings.countries,
                use_own_numbers=settings.use_own_numbers,
                international_rates_acknowledged=command.international_rates_acknowledged,
            ),
        ),
        notices=shared_number_notices(settings.countries),
    )


def _own_number_countries(settings: OtpScheduling) -> set[str]:
    """Countries where own numbers may send, which can incur international authentication rates."""
    return set(settings.countries) if settings.enabled and settings.use_own_numbers else set()


def saved(channel: Channel, event: OtpSchedulingSaved, metadata: EventMetadata) -> Channel:
    settings = OtpScheduling(event.enabled, event.countries, event.use_own_numbers)
    return channel.after(metadata, otp_scheduling=settings, otp_scheduling_changed=metadata.version)
