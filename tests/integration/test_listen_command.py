"""`switchboard listen` and `switchboard trigger` as processes of a machine that has an API key and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.customer import ACCOUNT, CODE, Customer
from tests.installation import Installation
from tests.laptop import developer_key
from tests.receivers import Receiver, verifies, verify


async def test_calls_arrive_at_a_laptop_whatever_happens_to_the_signature(
    installation: Installation, shop: Customer, receiver: Receiver, tmp_path: Path
) -> None:
    account_secret = await shop.open("crm", receiver.url("never"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")} | {
        "SWITCHBOARD_API_URL": installation.address,
        "SWITCHBOARD_API_KEY": await developer_key(installation, ACCOUNT, shop.channel),
        "SWITCHBOARD_DATA_DIR": str(tmp_path / "none"),
        "XDG_CONFIG_HOME": str(tmp_path),
    }

    async def start(*arguments: str) -> asyncio.subprocess.Process:
        command = (sys.executable, "-m", "services.cli", *arguments, "--channel", shop.channel)
        return await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    listener = await start("listen", "--forward-to", receiver.url("local"))
    assert listener.stdout is not None
    assert listener.stderr is not None
    said = [(await listener.stderr.readline()).decode() for _ in range(2)]
    file = tmp_path / "switchboard" / "development-secret"
    secret = file.read_text().strip()
    assert said[0].startswith(f"Listening for calls of {shop.channel}; forwarding to {receiver.url('local')}.")
    assert said[1] == f"The secret for your receiver is {secret}, which is shown this once and is in {file}.\n"

    triggered = await start("trigger", CODE, "--system", "crm", "--data", '{"order": 42}')
    delivery = json.loads((await triggered.communicate())[0])
    assert (triggered.returncode, delivery["state"], delivery["to_listener"]) == (0, "delivered", True)
    [call] = receiver.calls["local"]
    assert (call.webhook_id, call.json["type"], call.json["data"]) == (delivery["id"], CODE, {"order": 42})
    verify(call, secret)
    assert not verifies(call, account_secret)
    line = json.loads(await listener.stdout.readline())
    assert (line["delivery"], line["status"], line["answer"]) == (delivery["id"], 200, "counts")

    await shop.known(await shop.api("POST", f"{shop.path('crm')}/signature", {}))
    refreshed = await shop.api("POST", f"{shop.path('crm')}/intents/{CODE}/trigger", {})
    assert refreshed.body["attempt"]["status"] == 200
    verify(receiver.calls["local"][1], secret)

    await listener.stdout.readline()
    listener.send_signal(signal.SIGINT)
    assert await listener.communicate() == (b"", b"")
    assert listener.returncode == 0
    nobody = await shop.api("POST", f"{shop.path('crm')}/intents/{CODE}/trigger", {})
    assert nobody.body["attempt"]["error"] == "nobody listens", "it has left"
    assert receiver.calls["never"] == []
