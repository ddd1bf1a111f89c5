"""What the console's pages are about: a row for each page, which names the operation of the API that it does or shows.

So a session may do what its principal may do, and no more. A page that only shows a dialog is a read of what is in it.
"""

from __future__ import annotations

_PAGE = "/console/channels/{channel}"
_SETTINGS = f"{_PAGE}/service-settings"
_SYSTEM = f"{_SETTINGS}/business-systems/{{system}}"
_INTENT = f"{_SYSTEM}/intents/{{code}}"
_API = "/v1/channels/{channel}"
_API_SYSTEM = f"{_API}/business-systems/{{system}}"

CONSOLE_OPERATIONS: dict[str, str] = {
    "GET /console/form-token": "GET /v1/channels",
    "POST /console/log-off": "GET /v1/channels",
    "POST /console/log-off-everywhere": "GET /v1/channels",
    "POST /console/account": "GET /v1/channels",
    "GET /console/events": "GET /v1/changes",
    "GET /console/api-keys": "GET /v1/api-keys",
    "POST /console/api-keys": "POST /v1/api-keys",
    "POST /console/api-keys/{key}/revoke": "DELETE /v1/api-keys/{key}",
    "POST /console/api-keys/{key}/rotation": "POST /v1/api-keys/{key}/rotation",
    "GET /console/health": "GET /v1/health",
    "GET /console/palette": "GET /v1/channels",
    "GET /console/channels": "GET /v1/channels",
    "GET /console/customers": "GET /v1/customers",
    "POST /console/customers/settings": "POST /v1/customers/settings",
    "GET /console/history": "GET /v1/history",
    "GET /console/usage": "GET /v1/usage",
    f"GET {_PAGE}": f"GET {_API}",
    f"GET {_SETTINGS}": f"GET {_API}/settings",
    f"POST {_SETTINGS}/sms": f"PUT {_API}/sms",
    f"POST {_SETTINGS}/otp-scheduling": f"PUT {_API}/otp-scheduling",
    f"POST {_SETTINGS}/spend-guard": f"PUT {_API}/spend-guard",
    f"POST {_SETTINGS}/approvals": f"PUT {_API}/approvals",
    f"GET {_SETTINGS}/open-business-system": f"GET {_API}/settings",
    f"POST {_SETTINGS}/open-business-system": f"PUT {_API_SYSTEM}",
    f"GET {_SYSTEM}/edit": f"GET {_API_SYSTEM}",
    f"POST {_SYSTEM}/edit": f"PATCH {_API_SYSTEM}",
    f"GET {_SYSTEM}/delete": f"GET {_API_SYSTEM}",
    f"POST {_SYSTEM}/delete": f"DELETE {_API_SYSTEM}",
    f"GET {_SYSTEM}/signature": f"GET {_API_SYSTEM}/signatures",
    f"POST {_SYSTEM}/signature": f"POST {_API_SYSTEM}/signature",
    f"GET {_SYSTEM}/intents": f"GET {_API_SYSTEM}/intents",
    f"GET {_SYSTEM}/intents/add": f"GET {_API_SYSTEM}/intents",
    f"POST {_SYSTEM}/intents/add": f"PUT {_API_SYSTEM}/intents/{{code}}",
    f"GET {_INTENT}/edit": f"GET {_API_SYSTEM}/intents/{{code}}",
    f"POST {_INTENT}/edit": f"PATCH {_API_SYSTEM}/intents/{{code}}",
    f"GET {_INTENT}/delete": f"GET {_API_SYSTEM}/intents/{{code}}",
    f"POST {_INTENT}/delete": f"DELETE {_API_SYSTEM}/intents/{{code}}",
    f"GET {_SYSTEM}/test-call": f"GET {_API_SYSTEM}",
    f"POST {_SYSTEM}/test-call": f"POST {_API_SYSTEM}/test-calls",
    f"GET {_PAGE}/deliveries": f"GET {_API}/invocations",
    f"GET {_PAGE}/deliveries/{{delivery}}": f"GET {_API}/invocations",
    f"POST {_PAGE}/deliveries/{{delivery}}/replay": f"POST {_API}/invocations",
    f"POST {_PAGE}/deliveries/replay": f"POST {_API}/invocations",
    f"GET {_PAGE}/messages": f"GET {_API}/messages",
    f"GET {_PAGE}/messages/{{message}}": f"GET {_API}/messages/{{message}}",
    f"POST {_PAGE}/messages/dry-run": f"POST {_API}/message-decisions",
    f"GET {_PAGE}/proposed-changes": f"GET {_API}/proposed-changes",
    f"GET {_PAGE}/proposed-changes/{{change}}": f"GET {_API}/proposed-changes/{{change}}",
    f"POST {_PAGE}/proposed-changes/{{change}}/approve": f"POST {_API}/proposed-changes/{{change}}/approve",
    f"POST {_PAGE}/proposed-changes/{{change}}/decline": f"POST {_API}/proposed-changes/{{change}}/decline",
    f"GET {_PAGE}/compare": "GET /v1/audit/diff",
    f"GET {_PAGE}/history": f"GET {_API}/history",
    f"GET {_PAGE}/traces/{{request_id}}": f"GET {_API}/history",
    f"GET {_PAGE}/history/{{version}}/undo": f"GET {_API}/history",
    f"POST {_PAGE}/history/{{version}}/undo": f"PATCH {_API}",
}
"""Method and path of a page -> the operation in `OPERATIONS`."""

OPEN_PAGES = (
    "GET /console/log-on",
    "POST /console/log-on",
    "GET /console/log-on/issuer",
    "GET /console/log-on/callback",
    "GET /console/icon.svg",
    "GET /console/assets/{digest}/{name}",
)
"""What nobody needs to be logged on for."""
