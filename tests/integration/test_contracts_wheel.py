"""The contracts as a wheel of their own: alone in an empty environment, they publish a command and read its outcome."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import contracts
from contracts.business_system import OpenBusinessSystem
from contracts.channel import RegisterChannel
from tests.installation import Installation, fresh, run_apart
from tests.messages import SINGAPOREAN, now, report_resource, scheduled_channel

CONTRACTS = Path(contracts.__file__).parent
_WITHOUT_OUR_CODE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


_MESSAGES_ALONE = """
import importlib, importlib.util, pkgutil
import switchboard_contracts

messages = {one.name for one in pkgutil.iter_modules(switchboard_contracts.__path__)}
for name in messages:
    importlib.import_module(f"switchboard_contracts.{name}")
from switchboard_contracts.envelope import read_command
from switchboard_contracts.sms import ToggleSms
command = {"specversion": "1.0", "id": "1", "type": "ToggleSms", "source": "s", "subject": "ch-1", "accountid": "acme"}
import json
read = read_command(json.dumps(command | {"data": ToggleSms(enabled=True).model_dump()}).encode())
print(len(messages) > 15, read.data, [one for one in ("aiokafka", "nacl") if importlib.util.find_spec(one)])
"""


@pytest.fixture(scope="module")
def messages_alone() -> list[str]:
    """What `_MESSAGES_ALONE` said before the clients' extras were installed."""
    return []


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, messages_alone: list[str]) -> Path:
    """The interpreter of an environment that holds the wheel and what it needs, nothing else."""
    place = tmp_path_factory.mktemp("alone")

    def run(*command: str | Path) -> None:
        done = subprocess.run(command, cwd=CONTRACTS, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place / "dist")
    run(sys.executable, "-m", "venv", place / "venv")
    wheel = next((place / "dist").glob("switchboard_contracts-*.whl"))
    interpreter = place / "venv" / "bin" / "python"
    install = (interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*install, wheel)
    done = _run(interpreter, _MESSAGES_ALONE)
    messages_alone.append(done.stdout + done.stderr)
    run(*install, f"{wheel}[kafka,sealing]")
    return interpreter


def _run(python: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run((python, "-I", "-W", "error", "-c", code), capture_output=True, text=True, check=False)


def _examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (CONTRACTS / "README.md").read_text(), re.DOTALL)


def _example(word: str) -> str:
    [found] = [example for example in _examples() if word in example]
    return found


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("python")
def test_messages_need_pydantic_alone(messages_alone: list[str]) -> None:
    assert messages_alone == ["True {'enabled': True} []\n"]


@pytest.mark.timeout(180)
def test_the_readme_example(installation: Installation, python: Path) -> None:
    channel = fresh("wheel")

    async def register() -> None:
        async with installation.publisher("acme") as publisher:
            command = RegisterChannel(channel_type="viber", name="Shop", enterprise_authenticated=True)
            assert (await publisher.send(command, channel=channel)).accepted

    run_apart(register())
    example = _example("CommandRejected").replace("127.0.0.1:9092", installation.bootstrap_servers)

    unknown = fresh("nobody")
    nobody = _run(python, example.replace("demo-whatsapp", unknown))
    accepted = _run(python, example.replace("demo-whatsapp", channel))

    assert nobody.stdout.startswith(f"Rejected: The account has no channel {unknown!r}"), nobody.stderr
    assert accepted.stdout == "Accepted: version 2\n", accepted.stderr

    script = _example("SyncPublisher").replace("127.0.0.1:9092", installation.bootstrap_servers)
    scripted = _run(python, script.replace("demo-whatsapp", channel))

    assert scripted.stdout == "Version 3\n", scripted.stderr

    following = _example("Subscriber").replace("127.0.0.1:9092", installation.bootstrap_servers)
    followed = _run(python, following.replace('["sms"]', f'["sms"], channels=["{channel}"], endless=False'))

    assert followed.stdout.splitlines() == [
        f"{channel}: SmsActivated, version 2",
        f"{channel}: SmsDeactivated, version 3",
    ], followed.stderr


@pytest.mark.timeout(180)
def test_type_checkers_find_nothing_in_the_examples(python: Path, tmp_path: Path) -> None:
    """Strict, with the wheel as it is installed. Both find a wrong one, so they do see its types."""
    for number, example in enumerate(_examples()):
        (tmp_path / f"example_{number}.py").write_text(example)
    wrong = "from switchboard_contracts import Subscriber, SyncPublisher, ToggleSms\n\n"
    wrong += (
        'ToggleSms(enabled=True).enabled.upper()\nSyncPublisher("k", source="s").send(1)\nSubscriber("k").chnges()\n'
    )
    (tmp_path / "wrong.py").write_text(wrong)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    checkers = [
        (
            "mypy",
            "--strict",
            "--config-file=",
            f"--cache-dir={tmp_path}/cache",
            "--python-executable",
            str(python),
            ".",
        ),
        ("pyright", "--pythonpath", str(python), "-p", "."),
    ]
    running = [
        subprocess.Popen(
            (sys.executable, "-m", *one), cwd=tmp_path, env=_WITHOUT_OUR_CODE, stdout=subprocess.PIPE, text=True
        )
        for one in checkers
    ]
    for process in running:
        said, _ = process.communicate()
        found = {(Path(file).name, int(line)) for file, line in re.findall(r"([\w/]+\.py):(\d+)\S* ?-? error", said)}
        assert found == {("wrong.py", 3), ("wrong.py", 4), ("wrong.py", 5)}, said


def test_it_imports_nothing_of_the_rest(python: Path) -> None:
    done = _run(
        python, "import switchboard_contracts.kafka.publisher, sys; print('services' in sys.modules)\nimport services"
    )

    assert done.stdout == "False\n"
    assert "No module named 'services'" in done.stderr


@pytest.mark.timeout(180)
def test_the_examples_of_messages(installation: Installation, python: Path) -> None:
    account = fresh("wheel")
    channel, version = run_apart(scheduled_channel(installation, account))

    async def have_one_charged() -> None:
        async with installation.api(None, **{"Switchboard-Account": account}) as platform:
            await report_resource(platform, 1, fresh("pool"))
            assert (await platform("GET", f"channels/{channel}/settings?min_version={version}")).status == 200
            status = {"status": "sent", "via": "chat", "at": now()}
            assert (await platform("POST", f"channels/{channel}/messages/otp-1/statuses", status)).status == 202

    run_apart(have_one_charged())
    routing, following = (
        _example(one).replace("127.0.0.1:9092", installation.bootstrap_servers).replace('"acme"', f'"{account}"')
        for one in ("Router", "Notices")
    )
    routed = _run(python, routing.replace("demo-whatsapp", channel).replace("+919812345678", SINGAPOREAN))

    assert routed.stdout.startswith("scheduled: SG is chosen"), routed.stderr

    following = following.replace("demo-sms-sender", f"demo-{account}")
    code = following.replace("no rate'}\")", "no rate'}\")\n                    return")
    assert code != following
    followed = _run(python, code)

    assert followed.stdout == "otp-1 is charged: no rate\n", followed.stderr


def test_the_sealing_example(installation: Installation, python: Path) -> None:
    channel = fresh("wheel")

    async def open_system() -> None:
        async with installation.publisher("acme") as publisher:
            crm = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/")
            for command in (RegisterChannel(channel_type="viber", name="Shop", enterprise_authenticated=True), crm):
                assert (await publisher.send(command, channel=channel)).accepted

    run_apart(open_system())
    example = _example("RevealSignature").replace("127.0.0.1:9092", installation.bootstrap_servers)
    done = _run(python, example.replace("demo-whatsapp", channel))

    assert done.stdout.startswith("The secret begins with whsec_"), done.stderr
