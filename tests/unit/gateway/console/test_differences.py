"""What a change changed, in the words of the console."""

from __future__ import annotations

import pytest

from services.gateway.console.differences import Difference, differences

SECTION = {"enabled": False, "countries": [], "use_own_numbers": False}


@pytest.mark.parametrize(
    ("before", "after", "resource", "found"),
    [
        ({"sms/enabled": False}, {"sms/enabled": True}, "sms", [("enabled", False, True)]),
        ({}, {"business-systems/crm/api_request_url": "u"}, "business-systems/crm", [("api request url", None, "u")]),
        ({"channel/remarks": None}, {"channel/remarks": None}, "channel", []),
        (
            {"otp-scheduling": SECTION},
            {"otp-scheduling": SECTION | {"enabled": True, "countries": ["ID"]}},
            "otp-scheduling",
            [("enabled", False, True), ("countries", [], ["ID"])],
        ),
        ({}, {"sms": {"enabled": True}}, "sms", [("enabled", None, True)]),
        ({"b/crm/signatures": []}, {"b/crm/signatures": ["k"]}, "b/crm/signature", [("signatures", [], ["k"])]),
        ({"retired": False}, {"retired": True}, "channel", [("retired", False, True)]),
    ],
    ids=["field", "new", "absent", "section", "new-section", "signature", "elsewhere"],
)
def test_differences(
    before: dict[str, object], after: dict[str, object], resource: str, found: list[tuple[str, object, object]]
) -> None:
    assert differences(before, after, resource) == [Difference(*one) for one in found]
