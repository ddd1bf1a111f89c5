"""Random traffic over HTTP, repeated by its seed: every command that settings have, many of them refused."""

from __future__ import annotations

import http
import http.client
import random
import threading
import time
import urllib.error
from datetime import UTC, datetime
from typing import Any

from tests.oracle.http import Api

_TYPES = ("whatsapp", "viber", "messenger", "telegram")
_COUNTRIES = ("AE", "BD", "BR", "EG", "ID", "IN", "KZ", "MY", "NG", "PK", "RU", "SA", "US", "ZA")
_TEXTS = (
    *("CRM", " CRM", "Bu\u0308ro", "zero\u200bwidth", "right\u202eleft", "Büro", "仓库", 'a "quoted" name'),
    *("slash/and~tilde", "emoji 🧾", "x" * 255),
)
_APPROVED = ("signature", "otp-scheduling", "business-systems", "retire")
_INSTANTS_S = 60.0
_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    1.0,
    -5.0,
    1e300,
    "",
    "true",
    [],
    {},
    [1, True, 1.0],
    {"a": {"b/c": [None]}},
)

_KEYS = ("", " ", "a/b", "~1", "é", "e\u0301", "__proto__", "0", "k" * 300, "\U0001f600", "a.b", "$ref", "-")
"""Names of fields in an intent's data, which are the customer's own."""

_ODD_IDS = ("..", ".", "%2e%2e", "a%2Fb", "a%00b", "%20", "x" * 129, "B%C3%BCro", "a;b", "a%3Fb", "%FF")
_ODD_BODIES: tuple[tuple[bytes, dict[str, str]], ...] = (
    (b"{", {}),
    (b"[]", {}),
    (b"null", {}),
    (b'{"enabled": true} {"enabled": false}', {}),
    (b'{"enabled": true, "enabled": false, "color": 1}', {}),
    (b'\xef\xbb\xbf{"enabled": true}', {}),
    (b"\xff\xfe{\x00}\x00", {}),
    (b'{"name": "B\xfcro"}', {}),
    (b'{"name": "\\ud800"}', {}),
    (b'{"name": "a\\u0000b"}', {}),
    (b'{"enabled": 1e400}', {}),
    (b'{"enabled": ' + b"9" * 5_000 + b"}", {}),
    (b'{"default_data": ' + b"[" * 200 + b"]" * 200 + b"}", {}),
    (b'{"enabled": NaN}', {}),
    (b'{"enabled": true}', {"Content-Type": "application/merge-patch+json"}),
    (b'{"enabled": true}', {"Content-Type": "text/plain"}),
    (b'{"enabled": true}', {"Content-Encoding": "gzip"}),
    (b'{"enabled": true}', {"If-Match": '"x"'}),
    (b'{"enabled": true}', {"Idempotency-Key": ""}),
    (b'{"enabled": true}', {"Idempotency-Key": "k" * 300}),
)
"""Each is refused, whatever the route; some only there."""

_REFUSED = range(400, 500)


class Traffic:
    """``channels`` channels of two accounts, changed by as many threads as there are channels.

    ``second`` asks as another person, who approves what the one of ``api`` proposes, and proposes too.
    """

    def __init__(self, api: Api, second: Api, seed: int, channels: int, prefix: str = "oracle") -> None:
        self._api, self._people = api, (api, second)
        self._seed, self._channels, self._prefix = seed, channels, prefix
        self.accepted = 0
        self.refused = 0
        self.wrong: list[str] = []
        """Odd requests that were not refused, and answers to the same idempotency key that differ."""
        self._counting = threading.Lock()

    def run(self, steps: int) -> None:
        """``steps`` requests for each channel; returns when all are answered, and no approved change waits any more."""
        threads = [threading.Thread(target=self._drive, args=(number, steps)) for number in range(self._channels)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _drive(self, number: int, steps: int) -> None:
        dice = random.Random(f"{self._seed}/{number}")
        account, channel = f"{self._prefix}-{number % 2}", f"{self._prefix}-{self._seed}-{number}"
        base = f"/v1/channels/{channel}"
        kind = {"channel_type": dice.choice(_TYPES), "name": "Shop", "enterprise_authenticated": True}
        self._send("PUT", base, account, kind)
        proposed: list[str] = []
        for step in range(steps):
            if dice.random() < 0.002 and step > steps // 2:
                self._send("DELETE", f"{base}?confirm={channel}", account, None)
            self._send(*self._step(dice, base, account))
            if dice.random() < 0.4:
                self._propose_or_decide(dice, base, account, f"c-{step}", proposed)
            if dice.random() < 0.3:
                self._send_oddly(dice, base, account)
            if dice.random() < 0.1:
                self._send_again(dice, f"{base}/sms", account, step)

        self._wait_for_instants(base, account)

    def _propose_or_decide(self, dice: random.Random, base: str, account: str, new: str, proposed: list[str]) -> None:
        """What is proposed for an instant is mostly approved at once; the rest is decided on later, or overtaken."""
        changes, (one, other) = f"{base}/proposed-changes", dice.sample(self._people, 2)
        if not proposed or dice.random() < 0.5:
            change = {"change": new, "command": self._proposable(dice), "comment": dice.choice(_TEXTS)[:20]}
            if dice.random() < 0.4:
                change["at"] = _time(time.time() + dice.uniform(0.1, 1.5))
            if proposed and dice.random() < 0.2:
                change["replaces"] = dice.choice(proposed)
            self._send("POST", changes, account, change, one)
            proposed.append(new)
            if "at" not in change or dice.random() < 0.2:
                return
        verb = dice.choice(("approve", "approve", "approve", "decline"))
        path = f"{changes}/{dice.choice(proposed[-3:])}/{verb}"
        self._send("POST", path, account, dice.choice(({}, {"comment": "seen"})), other)

    def _proposable(self, dice: random.Random) -> dict[str, Any]:
        system, url = dice.choice(("crm", "erp")), "https://example.org/proposed"
        kind, data = dice.choice(
            (
                ("SaveApprovals", {"required_for": dice.sample(_APPROVED, dice.randrange(3))}),
                ("SaveApprovals", {"required_for": []}),
                ("SaveOtpScheduling", self._form(dice)),
                ("OpenBusinessSystem", {"system": system, "name": f"Proposed {system}", "api_request_url": url}),
                ("EditBusinessSystem", {"system": system, "name": f"Proposed {dice.randrange(9)}"}),
                ("EditBusinessSystem", {"system": system, "remarks": None}),
                ("DeleteBusinessSystem", {"system": "shop"}),
                ("EnableBusinessSystem", {"system": system}),
                ("RefreshSignature", {"system": system, "force": True, "grace_seconds": dice.choice((0, 600))}),
            )
        )
        return {"type": kind, "data": data}

    def _wait_for_instants(self, base: str, account: str) -> None:
        """Until no approved change waits, which would be carried out while the oracle judges."""
        deadline = time.monotonic() + _INSTANTS_S
        while time.monotonic() < deadline:
            try:
                _, now = self._api.send("PUT", f"{base}/sms", account, {"enabled": True})
                waiting = self._api.get(f"{base}/proposed-changes", account, open="true", min_version=now["version"])
                if all(change["status"] != "approved" for change in waiting["changes"]):
                    return
            except urllib.error.HTTPError as error:
                if error.code == http.HTTPStatus.GONE:  # the channel is retired, which makes its open changes void
                    return
            except (OSError, http.client.HTTPException):  # nobody there just now
                pass
            time.sleep(0.2)
        with self._counting:
            self.wrong.append(f"{base}: an approved change is not carried out at its instant")

    def _send_oddly(self, dice: random.Random, base: str, account: str) -> None:
        body, headers = dice.choice(_ODD_BODIES)
        method, path = dice.choice((("PUT", "/sms"), ("PATCH", "/business-systems/crm"), ("PATCH", "")))
        if dice.random() < 0.3:
            method, path, body, headers = "PUT", f"/business-systems/{dice.choice(_ODD_IDS)}", b"{}", {}
        self._expect(method, base + path, account, body, headers, _REFUSED)

    def _send_again(self, dice: random.Random, path: str, account: str, step: int) -> None:
        """The same key, with and without quotes, is the same command; with another body it is refused."""
        key, enabled = f"again-{step}", dice.random() < 0.5
        decided = [
            self._expect("PUT", path, account, {"enabled": enabled}, {"Idempotency-Key": form}, range(200, 500))
            for form in (key, f'"{key}"')
        ]
        if 200 in decided:  # otherwise the command may not have arrived
            self._expect("PUT", path, account, {"enabled": not enabled}, {"Idempotency-Key": key}, _REFUSED)

    def _expect(
        self, method: str, path: str, account: str, body: Any, headers: dict[str, str], expected: range
    ) -> int | None:
        try:
            status = self._api.status(method, path, account, body, headers)
        except (OSError, http.client.HTTPException):  # nobody there just now
            return None
        if status not in expected and status not in (500, 502, 503, 504):  # the services are killed meanwhile
            with self._counting:
                self.wrong.append(f"{method} {path} with {body!r} and {headers} is answered with {status}")
        return status

    def _step(self, dice: random.Random, base: str, account: str) -> tuple[str, str, str, Any]:
        system = f"{base}/business-systems/{dice.choice(('crm', 'erp', 'shop'))}"
        intent = f"{system}/intents/{dice.choice(('ORDER', 'REFUND', 'A_1'))}"
        name = {"name": f"{dice.choice(_TEXTS)[:240]} {dice.randrange(9)}"}
        url = {"api_request_url": f"https://example.org/{dice.choice(('a', 'b%2Fc?x=%20', 'ü'))}"}
        method, path, body = dice.choice(
            (
                ("PUT", f"{base}/sms", {"enabled": dice.random() < 0.5}),
                ("PUT", f"{base}/otp-scheduling", self._form(dice)),
                ("PUT", f"{base}/spend-guard", self._guard(dice)),
                ("PUT", f"{base}/approvals", {"required_for": dice.sample(_APPROVED, dice.randrange(3))}),
                (
                    "PATCH",
                    base,
                    name | ({"provider": dice.choice((None, "provider-1"))} if dice.random() < 0.5 else {}),
                ),
                ("PUT", system, name | url | {"remarks": dice.choice(("", "two\nlines"))}),
                ("PUT", system, name | url),
                ("PATCH", system, dice.choice((name, url, {"remarks": None}, {"signature_style": "plain-token"}))),
                ("DELETE", system, None),
                (
                    "POST",
                    f"{system}/signature",
                    {"force": dice.random() < 0.5, "grace_seconds": dice.choice((0, 1, 600))} | url,
                ),
                (
                    "PUT",
                    intent,
                    name | {"default_data": {dice.choice(_KEYS): dice.choice(_VALUES), "v": dice.choice(_VALUES)}},
                ),
                ("PUT", intent, name | {"default_data": {}, "schema": {"type": "object"}}),
                ("PATCH", intent, dice.choice((name, {"default_data": {"v": dice.choice(_VALUES)}}, {"schema": None}))),
                ("DELETE", intent, None),
            )
        )
        return method, path, account, body

    def _form(self, dice: random.Random) -> dict[str, Any]:
        return {
            "enabled": dice.random() < 0.7,
            "countries": dice.sample(_COUNTRIES, dice.randrange(5)),
            "use_own_numbers": dice.random() < 0.5,
            "international_rates_acknowledged": dice.random() < 0.8,
        }

    def _guard(self, dice: random.Random) -> dict[str, Any]:
        most = {"amount": dice.choice(("0.05", "0.050", "1")), "currency": "AED"}
        mode, daily = dice.choice(("off", "monitor", "enforce")), dice.choice((None, 0, 1000))
        return {"mode": mode, "max_rate": dice.choice((None, most)), "daily_messages_per_country": daily}

    def _send(self, method: str, path: str, account: str, body: Any, by: Api | None = None) -> None:
        accepted = False
        try:
            (by or self._api).send(method, path, account, body)
            accepted = True
        except urllib.error.HTTPError as error:  # refused, which is part of it
            error.close()
        except (OSError, http.client.HTTPException):  # nobody there just now: the next one waits for somebody
            time.sleep(0.2)
        with self._counting:
            self.accepted += accepted
            self.refused += not accepted


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
