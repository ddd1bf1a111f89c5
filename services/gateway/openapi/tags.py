"""The groups of operations in `/docs`, in its order: first what sets up a channel, then what happens on it."""

from __future__ import annotations

from contracts.settings import SECTIONS
from services.gateway.problems import title


def section_tag(resource: str) -> str:
    """``otp-scheduling`` becomes ``OTP scheduling``."""
    return title("".join(word.capitalize() for word in resource.split("-")))


_BEFORE_SECTIONS = {
    "Channels": "One sender identity of an account on one chat app. The platform registers them.",
    "Customers": "The accounts whose channels a provider runs, side by side.",
    "Settings": "All that is set up for a channel, as one document.",
    "Business systems": "A customer's own systems, which the platform calls.",
    "Signatures": "The secrets that authenticate the platform to a business system.",
    "Intents": "What the button of a message template can call, by its code.",
}
_SECTIONS = {section_tag(section.resource): (section.__doc__ or "").strip() for section in SECTIONS.values()}
_AFTER_SECTIONS = {
    "Proposed changes": "Changes that a second person approves or declines.",
    "Invocations": "Calls of intents.",
    "Listeners": "Machines of developers, to which calls made as tests go instead of a business system.",
    "Deliveries": "Signed calls to business systems, with their attempts, and their replay.",
    "Messages": "The route of each message with its reason, and what became of it.",
    "Scheduling resources": "The platform's pools of sender numbers for OTP scheduling.",
    "Usage": "What is charged.",
    "Rates": "What a message costs by country and fee class.",
    "Changes": "Settings events as they happen, or page by page.",
    "History": "What happened to the settings, who did it, and what it changed.",
    "Audit": "The same from the log itself.",
    "API keys": "Who may call this API.",
    "Health": "How the platform is. For the platform.",
}

TAGS = [
    {"name": name, "description": description}
    for name, description in (_BEFORE_SECTIONS | _SECTIONS | _AFTER_SECTIONS).items()
]
