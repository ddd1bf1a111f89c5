"""Commands that many histories begin with."""

from __future__ import annotations

from contracts.business_system import BusinessSystemOpened, OpenBusinessSystem
from contracts.channel import ChannelType, RegisterChannel
from contracts.intent import AddIntent, ReferToIntent
from contracts.signature import IssuedSignature, RefreshSignature, ReplacedSignature, SignatureRefreshed
from tests.unit.domain.given import at, fingerprint_of

URL = "https://crm.example/hook"
SEAL_TO = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="


def channel_of(channel_type: ChannelType = "whatsapp") -> RegisterChannel:
    return RegisterChannel(channel_type=channel_type, name="Shop", enterprise_authenticated=True)


WHATSAPP = channel_of("whatsapp")
OPEN_CRM = OpenBusinessSystem(system="crm", name="CRM", api_request_url=URL)
OPEN_PLAIN = OpenBusinessSystem(system="crm", name="CRM", api_request_url=URL, signature_style="plain-token")
OPEN_ERP = OpenBusinessSystem(system="erp", name="ERP", api_request_url="https://erp.example/hook")
ADD_ORDER = AddIntent(system="crm", code="ORDER", name="Order status", default_data={"order": "42"})
REFER = ReferToIntent(system="crm", code="ORDER", template="welcome")


def draft(system: str = "crm", url: str = URL) -> RefreshSignature:
    """A refresh before the business system is opened."""
    return RefreshSignature(system=system, api_request_url=url)


def crm_opened(taken_over: IssuedSignature | None = None) -> BusinessSystemOpened:
    return BusinessSystemOpened(
        system="crm",
        name="CRM",
        api_request_url=URL,
        remarks="",
        signature_style="standard-webhooks",
        signature=taken_over,
    )


def refreshed(number: int, *replaced: tuple[str, str], system: str = "crm") -> SignatureRefreshed:
    """The n-th signature of the channel; ``replaced`` are (key id, valid until)."""
    return SignatureRefreshed(
        system=system,
        key_id=f"key-{number}",
        fingerprint=fingerprint_of(number),
        replaced=tuple(ReplacedSignature(key_id=key_id, valid_until=until) for key_id, until in replaced),
    )


def issued(number: int, seconds: float = 0) -> IssuedSignature:
    return IssuedSignature(key_id=f"key-{number}", fingerprint=fingerprint_of(number), issued_at=at(seconds))
