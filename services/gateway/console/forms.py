"""Forms: what was typed, what is wrong with it, and what somebody else changed meanwhile."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from contracts.ids import new_id
from services.gateway.console.console_request import ConsoleRequest
from services.gateway.problems import Problem

_FIELD_OF = {
    "BusinessSystemNameTaken": "name",
    "ApiRequestUrlRefused": "api_request_url",
    "ApiRequestUrlSettled": "api_request_url",
    "SignatureNeedsApiRequestUrl": "api_request_url",
    "GracePeriodRunning": "old_signature",
    "IntentAlreadyAdded": "code",
    "IntentSchemaInvalid": "schema",
    "DefaultDataBreaksSchema": "default_data",
    "BusinessSystemInUse": "force",
    "IntentInUse": "force",
    "OtpSchedulingNeedsCountries": "countries",
    "InternationalRatesNotAcknowledged": "international_rates_acknowledged",
}
"""Rejection -> the field of a form that it is about."""

_PART = re.compile(r"'(?:data\.)?(\w+)(?:\.[^']*)?' .*?(?=; '(?:data\.)?\w+(?:\.[^']*)?' is |\.?$)")
_STATUSES_OF_FORMS = (409, 410, 412, 422)


class Form:
    """``values`` are what the fields show; ``base`` is what they showed when they were filled at ``version``.

    The version of what was never changed is 0, and a form can be overtaken there too.
    """

    def __init__(self, base: Mapping[str, Any], version: int = 0) -> None:
        self.base, self.version = dict(base), version
        self.values: dict[str, Any] = dict(base)
        self.errors: dict[str, str] = {}
        """Field -> a sentence; under ``""`` what is about no single field."""
        self.theirs: dict[str, Any] = {}
        """Field -> the value that somebody else gave to it, while it was edited here too."""
        self.taken: set[str] = set()
        """Fields that somebody else changed, and that were not edited here: they show the new value."""
        self.changed_by: list[dict[str, Any]] = []
        """Entries of the history: who changed what since."""
        self.command_id = new_id()
        self.needs_approval = False
        """Whether it can only be proposed."""

    def submit(self, console: ConsoleRequest, values: Mapping[str, Any]) -> None:
        """Takes what was sent, and what the page had when it was filled."""
        self.values = self.values | dict(values)
        try:
            version, base = int(console.text("version", "0")), json.loads(console.text("base", "{}"))
        except ValueError:
            version, base = 0, {}
        if console.has("version") and isinstance(base, dict):
            self.version, self.base = version, self.base | {name: base[name] for name in self.base if name in base}
        for name in console.form.get("conflict", []):
            if name in self.base:
                self.theirs[name] = self.base[name]
        for name in (console.text("take"), console.text("keep")):
            self.theirs.pop(name, None)
        if console.text("take") in self.base:
            self.values[console.text("take")] = self.base[console.text("take")]

    def merge(self, current: Mapping[str, Any], version: int) -> None:
        """Takes over what somebody else changed where nothing was edited here, and marks what both changed."""
        for name, value in current.items():
            if value == self.base.get(name):
                continue
            if self.values.get(name) == self.base.get(name):
                self.values[name] = value
                self.taken.add(name)
            elif self.values.get(name) == value:
                self.theirs.pop(name, None)
            else:
                self.theirs[name] = value
        self.base, self.version = dict(current), version

    @property
    def has_news(self) -> bool:
        return bool(self.theirs or self.taken)

    def reject(self, problem: Problem) -> int:
        """Puts the sentence beside its field. Returns the status. Raises the problem if a form cannot mend it."""
        if problem.status not in _STATUSES_OF_FORMS:
            raise problem
        self.needs_approval = problem.name == "ApprovalRequired"
        field = _FIELD_OF.get(problem.name, "")
        if problem.name == "InvalidCommand":
            for part in _PART.finditer(problem.detail):
                name = "schema" if part[1] == "json_schema" else part[1]
                self.errors.setdefault(name if name in self.values else "", part[0] + ".")
        if not self.errors or problem.name != "InvalidCommand":
            self.errors[field if field in self.values else ""] = problem.detail
        return problem.status

    @property
    def base_json(self) -> str:
        return json.dumps(self.base, ensure_ascii=False)
