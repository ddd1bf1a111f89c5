"""The README's examples, and those of two pages that it leads to, as they stand there, on a running Switchboard."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

import contracts
from contracts.business_system import OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.intent import AddIntent
from contracts.sms import ToggleSms
from services.domain.webhook_signature import encode_secret, webhook_signature
from services.infrastructure.acls import CUSTOMER
from services.infrastructure.config import Settings
from services.infrastructure.embedded.credentials import kcat_conf
from tests.installation import Installation, run_apart

HOME = Path(contracts.__file__).parent.parent


def _block(language: str, word: str, page: str = "README.md") -> str:
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", (HOME / page).read_text(), re.DOTALL)
    found = [block for block in blocks if word in block]
    assert len(found) == 1, f"{page} has {len(found)} examples in {language} with {word}"
    return found[0]


@pytest.fixture(scope="module")
def demo(installation: Installation) -> Installation:
    """An installation with the demo's channel on it."""

    async def walk() -> None:
        async with installation.publisher("acme") as publisher:
            for command in (
                RegisterChannel(channel_type="whatsapp", name="Demo shop", enterprise_authenticated=True),
                OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/hook"),
                AddIntent(system="crm", code="ORDER_STATUS", name="Order status", default_data={}),
            ):
                done = await publisher.send(
                    command, channel="demo-whatsapp", command_id=f"readme:{type(command).__name__}"
                )
        async with installation.api("acme") as api:
            shown = await api("GET", f"channels/demo-whatsapp/settings?min_version={done.version}")
            assert shown.status == 200

    run_apart(walk())
    return installation


def _command(demo: Installation, script: str, tmp_path: Path) -> tuple[str, ...]:
    """For where `switchboard up` would have put the API key, with the addresses of the installation."""
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "api-key").write_text(demo.api_key("acme"))
    (tmp_path / ".venv").symlink_to(HOME / ".venv")
    script = script.replace("localhost:8080", f"127.0.0.1:{demo.http_port}")
    (tmp_path / ".data" / "kcat.conf").write_text(_kcat_conf(demo))
    return ("bash", "-euo", "pipefail", "-c", script)


def _kcat_conf(demo: Installation) -> str:
    """As `up` writes it; on a broker without logins, its address alone."""
    login = demo.logins(CUSTOMER)
    if not login:
        return f"bootstrap.servers={demo.bootstrap_servers}\n"
    given = Settings.from_environment(login)
    return kcat_conf(given.kafka_bootstrap_servers or "", CUSTOMER, given.kafka_sasl_password or "")


def _shell(demo: Installation, script: str, tmp_path: Path) -> str:
    done = subprocess.run(
        _command(demo, script, tmp_path),
        cwd=tmp_path,
        env=os.environ | demo.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_line(demo: Installation, tmp_path: Path) -> None:
    said = _shell(demo, _block("sh", "switchboard send"), tmp_path)

    assert '"outcome": "CommandAccepted"' in said


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_over_http(demo: Installation, tmp_path: Path) -> None:
    said = _shell(demo, _block("sh", "sms-on-1") + "echo", tmp_path)

    assert '"channel":"demo-whatsapp"' in said
    assert '"command_id":"sms-on-1"' in said


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_routing_over_http(demo: Installation, tmp_path: Path) -> None:
    said = _shell(demo, _block("sh", "message-decisions", "docs/messages.md"), tmp_path)

    assert '"country":"SG"' in said
    assert "day,account,channel,country,fee_class,messages,amount,currency" in said


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_following(demo: Installation, tmp_path: Path) -> None:
    """It goes on until it is stopped."""
    line = _block("sh", "event-stream")
    following = subprocess.Popen(
        _command(demo, f"exec {line}", tmp_path),
        cwd=tmp_path,
        env=os.environ | demo.environment,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",  # it is killed, maybe within a letter
    )
    try:
        toggling = threading.Thread(target=run_apart, args=(_toggle_while(demo, following),))
        toggling.start()
        assert following.stdout is not None
        assert any('"SmsActivated"' in said for said in following.stdout)
    finally:
        following.kill()
        following.communicate()
    toggling.join()


async def _toggle_while(demo: Installation, process: subprocess.Popen[str]) -> None:
    async with demo.publisher("acme") as publisher:
        enabled = False
        while process.poll() is None:
            enabled = not enabled
            await publisher.send(ToggleSms(enabled=enabled), channel="demo-whatsapp")
            await asyncio.sleep(0.2)


def _kcat_lacks() -> str:
    """What keeps kcat from logging in; empty where nothing does."""
    if shutil.which("kcat") is None:
        return "there is no kcat on this machine"
    version = re.search(r"librdkafka (\d+)\.(\d+)\.(\d+)", subprocess.check_output(("kcat", "-V"), text=True))
    if version is not None and tuple(map(int, version.groups())) < (2, 6, 1):
        return f"kcat is on {version[0]}: Kafka 4 refuses the SCRAM of those before 2.6.1"
    return ""


@pytest.mark.skipif(bool(_kcat_lacks()), reason=_kcat_lacks())
def test_over_kafka(demo: Installation, tmp_path: Path) -> None:
    send, read = _block("sh", "kcat").split("\n\n")
    said = _shell(demo, f"{send}\nsleep 2\n{read}", tmp_path)

    answers = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert "CommandAccepted" in [one["type"] for one in answers if one.get("causationid") == "my-first"]


def _call() -> tuple[str, bytes, dict[str, str]]:
    """A signed call: the secret as its owner is shown it, the body, and the headers."""
    secret, body, now = os.urandom(32), b'{"type":"ORDER_STATUS","data":{}}', int(time.time())
    signed = webhook_signature(secret, "msg_1", now, body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now), "webhook-signature": f"v1,AAAA {signed}"}
    return encode_secret(secret), body, headers


def test_receiving_in_python() -> None:
    names: dict[str, Any] = {}
    exec(_block("python", "standardwebhooks", "docs/signed-calls.md"), names)  # noqa: S102 -- the example under test
    secret, body, headers = _call()

    assert names["receive"](secret, body, headers)["type"] == "ORDER_STATUS"
    with pytest.raises(WebhookVerificationError):
        names["receive"](secret, body + b" ", headers)


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on this machine")
def test_receiving_in_javascript() -> None:
    secret, body, headers = _call()
    other = encode_secret(os.urandom(32))

    def verify(secret: str, text: str, headers: dict[str, str]) -> str:
        call = f"console.log(verify({json.dumps(secret)}, {json.dumps(text)}, {json.dumps(headers)}))"
        script = f"{_block('js', 'createHmac', 'docs/signed-calls.md')}\n{call}"
        return subprocess.run(("node", "-e", script), capture_output=True, text=True, check=True).stdout.strip()

    assert verify(secret, body.decode(), headers) == "true"
    assert verify(secret, body.decode() + " ", headers) == "false"
    assert verify(other, body.decode(), headers) == "false"
    assert verify(secret, body.decode(), headers | {"webhook-timestamp": "1"}) == "false"
