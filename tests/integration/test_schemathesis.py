"""schemathesis asks every operation with what the served document allows, and with what it does not.

``SCHEMATHESIS_SECONDS`` is the time for each kind of key: 20 by default, and as long as you like.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.installation import Installation, fresh

SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "20"))
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance", "allow_header_conformance", "ignored_auth"),
)
"""Not whether every invalid value is refused, or every valid one taken: a schema says less than our rules do."""

WAITING = {"wait", "min_version", "settings_version"}
"""What waits, as it should, for longer than this test has, and then is answered with 504."""

LEFT_OUT = (
    *("makeTestCall", "triggerIntent"),  # wait for a call
    *("auditVerify", "auditAt", "auditDiff", "auditLog"),  # wait for their turn at the log
    *("putRates", "reportSchedulingResource", "withdrawSchedulingResource"),  # are about the accounts of other tests
)


async def documented(installation: Installation, known: dict[str, str]) -> dict[str, Any]:
    """The served document, whose sound paths are those of what is there."""
    async with installation.api(None) as api:
        document: dict[str, Any] = (await api("GET", "../openapi.json")).body
    for schema in document["components"]["schemas"].values():
        for name in WAITING & schema.get("properties", {}).keys() - set(schema.get("required", ())):
            del schema["properties"][name]
    for operations in document["paths"].values():
        for operation in operations.values():
            parameters = [one for one in operation.get("parameters", ()) if one["name"] not in WAITING]
            for one in parameters:
                if one["in"] == "path" and one["name"] in known:
                    one["schema"] = {"type": "string", "enum": [known[one["name"]]]}
            operation["parameters"] = parameters
    return document


@pytest.mark.timeout(SECONDS * 3 + 120)
@pytest.mark.parametrize("whose", ["platform", "account"])
async def test_nothing_is_answered_that_is_not_documented(
    installation: Installation, whose: str, tmp_path: Path
) -> None:
    account, known = fresh("acct"), {"channel": fresh("ch"), "system": "crm", "code": "ORDER"}
    async with installation.api(None, **{"Switchboard-Account": account}) as api:
        channel = f"channels/{known['channel']}"
        whatsapp = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
        assert (await api("PUT", channel, whatsapp)).status == 201
        crm = {"name": "CRM", "api_request_url": "https://crm.example/hook"}
        assert (await api("PUT", f"{channel}/business-systems/crm", crm)).status == 201
        order = {"name": "Order", "default_data": {}}
        assert (await api("PUT", f"{channel}/business-systems/crm/intents/ORDER", order)).status == 201
    source = tmp_path / "openapi.json"
    source.write_text(json.dumps(await documented(installation, known)))
    key = installation.api_key(None if whose == "platform" else account)
    options = ["--url", installation.address, "--checks", ",".join(CHECKS), "--header", f"Authorization: Bearer {key}"]
    if whose == "platform":
        options += ["--header", f"Switchboard-Account: {account}"]
    for name in LEFT_OUT:
        options += ["--exclude-operation-id", name]
    done = subprocess.run(  # noqa: ASYNC221 -- there is nothing else to do meanwhile
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", str(source), *options),
            *("--max-time", str(SECONDS), "--seed", "1", "--no-shrink", "--warnings", "off"),
            *("--phases", "coverage,fuzzing", "--request-timeout", "15", "--continue-on-failure"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2_000:]
