"""OTP delivery scheduling: saved as one form, on WhatsApp channels only."""

from __future__ import annotations

from contracts.otp_scheduling import OtpSchedulingSaved, SaveOtpScheduling
from contracts.rejections import (
    InternationalRatesNotAcknowledged,
    OtpSchedulingNeedsCountries,
    OtpSchedulingNeedsWhatsApp,
    Rejection,
)
from services.domain.decision import NOTHING_CHANGES, Decision, Mark
from services.domain.state import Channel, OtpScheduling, replace


def save(channel: Channel, command: SaveOtpScheduling) -> Decision | Rejection:
    if channel.channel_type != "whatsapp":
        return OtpSchedulingNeedsWhatsApp(channel_type=channel.channel_type)
    form = OtpScheduling(command.enabled, tuple(sorted(set(command.countries))), command.use_own_numbers)
    if form.enabled and not form.countries:
        return OtpSchedulingNeedsCountries()
    if form == channel.otp_scheduling:
        return NOTHING_CHANGES
    newly_exposed = _own_number_countries(form) - _own_number_countries(channel.otp_scheduling)
    if newly_exposed and not command.international_rates_acknowledged:
        return InternationalRatesNotAcknowledged(countries=sorted(newly_exposed))
    return Decision(
        (
            OtpSchedulingSaved(
                enabled=form.enabled,
                countries=form.countries,
                use_own_numbers=form.use_own_numbers,
                international_rates_acknowledged=command.international_rates_acknowledged,
            ),
        )
    )


def _own_number_countries(form: OtpScheduling) -> set[str]:
    """Where a send may go out from own numbers, and so incur international authentication rates."""
    return set(form.countries) if form.enabled and form.use_own_numbers else set()


def saved(channel: Channel, event: OtpSchedulingSaved, mark: Mark) -> Channel:
    form = OtpScheduling(event.enabled, event.countries, event.use_own_numbers)
    return replace(channel, otp_scheduling=form, otp_scheduling_changed=mark.version)
