"""The TypeScript client: its types from the contract, strict, and every operation on a running installation.

`make clients` runs it, and not `make test`, because npm's registry is needed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.cli import contract
from tests.clients.node import CLIENT, NODE, environment_for, install, node, npm, run_tests
from tests.installation import Installation, fresh

ROOT = Path(__file__).parents[2]
TSC = CLIENT / "node_modules" / "typescript" / "bin" / "tsc"
STRICT = {
    "compilerOptions": {
        "strict": True,
        "noUncheckedIndexedAccess": True,
        "exactOptionalPropertyTypes": True,
        "noEmit": True,
        "target": "es2024",
        "module": "nodenext",
        "lib": ["es2024", "dom", "dom.asynciterable"],
        "types": [],
    }
}
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def generated() -> None:
    install()
    (CLIENT / "openapi.json").write_text(contract.openapi())
    npm("run", "generate")


@pytest.fixture(scope="module")
def package() -> Path:
    """The built package, as npm would publish it."""
    shutil.rmtree(CLIENT / "dist", ignore_errors=True)
    npm("run", "build")
    (ROOT / "dist").mkdir(exist_ok=True)
    return ROOT / "dist" / npm("pack", "--silent", f"--pack-destination={ROOT / 'dist'}").split()[-1]


def test_types() -> None:
    npm("run", "check")


def test_the_lock_file_has_no_address_of_a_package() -> None:
    assert '"resolved"' not in (CLIENT / "package-lock.json").read_text()


def test_every_operation_and_problem(installation: Installation) -> None:
    for tests in ("operations", "problems"):
        run_tests(installation, f"test/installation/{tests}.test.ts")


def test_the_examples_of_its_page(package: Path, tmp_path: Path) -> None:
    """Each compiles in strict mode where the package alone is installed, and with nothing of Node's."""
    modules = tmp_path / "node_modules"
    with tarfile.open(package) as archive:
        archive.extractall(modules, filter="data")
    (modules / "package").rename(modules / "switchboard-client")
    for name in ("openapi-fetch", "openapi-typescript-helpers"):
        shutil.copytree(CLIENT / "node_modules" / name, modules / name)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    examples = re.findall(r"```ts\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    assert len(examples) > 1
    for number, example in enumerate(examples):
        (tmp_path / f"example{number}.ts").write_text(example)
    (tmp_path / "tsconfig.json").write_text(json.dumps(STRICT))
    node(TSC, "-p", tmp_path)


FOLLOW = """
import { follow } from "./src/index.ts";
const connection = { url: process.env.SWITCHBOARD_URL, apiKey: process.env.SWITCHBOARD_API_KEY };
const options = { cursor: "beginning", channel: [process.argv[1]], maxBackoff: 200 };
for await (const { event } of follow(connection, options)) {
  console.log(event.type);
}
"""


async def test_a_follower_goes_on_where_the_gateway_was_restarted(installation: Installation) -> None:
    channel, account = fresh("ch"), {"Switchboard-Account": fresh("acct")}
    async with installation.api(None, **account) as api:
        registered = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
        await api("PUT", f"channels/{channel}", registered)
        version = (await api("PUT", f"channels/{channel}/sms", {"enabled": True})).body["version"]
        await api("GET", f"channels/{channel}?min_version={version}")
    with following(channel, environment_for(installation)) as follower:
        assert [next(follower), next(follower)] == ["ChannelRegistered", "SmsActivated"]
        installation.kill("gateway")
        installation.restart("gateway")
        async with installation.api(None, **account) as api:
            await api("PUT", f"channels/{channel}/sms", {"enabled": False})
        assert next(follower) == "SmsDeactivated"


@contextmanager
def following(channel: str, variables: dict[str, str]) -> Iterator[Iterator[str]]:
    """The types of a channel's events, as another process prints them."""
    arguments = (NODE, "--input-type=module", "--eval", FOLLOW, "--", channel)
    process = subprocess.Popen(arguments, cwd=CLIENT, env=variables, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield (line.strip() for line in process.stdout)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
