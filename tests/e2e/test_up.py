"""``switchboard up --demo`` as a person runs it: it gets ready, and has everything again after a stop or a kill."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.infrastructure.embedded.process import free_port
from tests.e2e.surroundings import Surroundings
from tests.e2e.tour import Tour

_VERIFIED = re.compile("Receiver: verified the signature of")


class Up:
    """A run of it; `lines` are what it said so far."""

    def __init__(self, data: Path, ports: dict[str, str], odd: Surroundings | None = None) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")}
        self.environment = environment | ports | {"SWITCHBOARD_DATA_DIR": str(data)}
        self.process = subprocess.Popen(
            (*(odd.command if odd else (sys.executable, "-m", "services.cli")), "up", "--demo"),
            cwd=odd.directory if odd else None,
            env=odd.around(self.environment) if odd else self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self.until("Switchboard is ready")

    def until(self, beginning: str) -> str:
        """Reads on to a line that begins so."""
        for line in self.process.stdout or ():
            self.lines.append(line.rstrip())
            if self.lines[-1].startswith(beginning):
                return self.lines[-1]
        raise AssertionError("\n".join(self.lines))

    def said(self, label: str) -> str:
        """What stands behind a label."""
        return next(line.removeprefix(label).split()[0] for line in self.lines if line.startswith(label))

    def settings(self) -> dict[str, Any]:
        """The demo channel's settings, over HTTP."""
        return self.ask("GET", "settings")

    def switch_sms_off(self) -> dict[str, Any]:
        return self.ask("PUT", "sms", b'{"enabled": false}')

    def refresh_and_call(self) -> str:
        """Replaces the demo's signature at once, as Refresh in the console can. Returns what its receiver says."""
        refreshed = self.ask("POST", "business-systems/crm/signature", b'{"grace_seconds": 0}')
        self.until(f"  Receiver: has the new signature {refreshed['key_id']}")
        self.ask("POST", f"business-systems/crm/test-calls?min_version={refreshed['version']}", b"{}")
        return self.until("  Receiver: ")

    def ask(self, method: str, resource: str, body: bytes | None = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 -- our own address
            f"{self.said('API ')}/channels/demo-whatsapp/{resource}",
            data=body,
            headers={"Authorization": f"Bearer {self.said('API key')}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310
            found: dict[str, Any] = json.load(response)
            return found

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def _kill(up: Up, word: str) -> None:
    """SIGKILL to the child whose command line ends in the word, or names it; it comes back as another process."""
    for process in up.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(part == word or part.endswith(f"/{word}") for part in process.cmdline()):
                process.kill()


def _eventually(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer, once there is one: servers that were killed need a while."""
    while True:
        with contextlib.suppress(OSError):
            return ask()
        time.sleep(0.5)


@contextmanager
def _ended(up: Up) -> Iterator[None]:
    """Ends it even when the test fails."""
    try:
        yield
    finally:
        if up.process.poll() is None:
            up.process.terminate()
        up.process.communicate()


@pytest.mark.timeout(420)
def test_it_runs_and_comes_back(tmp_path: Path) -> None:
    """In surroundings that it did not choose, and with a data directory whose letters its locale does not have.

    The first two runs are those of the documentation's tour.
    """
    ports = {f"SWITCHBOARD_{name}_PORT": str(free_port()) for name in ("HTTP", "KAFKA", "POSTGRES")}
    ports["LC_ALL"] = "C"
    data = tmp_path / "Dätën \U0001f600"
    odd = Surroundings(tmp_path / "foreign")
    (elsewhere := tmp_path / "tour").mkdir()
    (elsewhere / ".data").symlink_to(data)
    own = free_port()

    with Tour(elsewhere, {"127.0.0.1:9000": f"127.0.0.1:{own}", '1", 9000)': f'1", {own})'}) as tour:
        first = Up(data, ports | {"SWITCHBOARD_HTTP_HOST": "::1"} | tour.start(), odd)
        with _ended(first):
            assert first.said("API ").startswith("http://[::1]:")
            assert sorted(path.name for path in tmp_path.iterdir()) == [data.name, "foreign", "tour"]
            assert any(_VERIFIED.search(line) for line in first.lines), "\n".join(first.lines)
            story = first.ask("GET", "messages/demo-otp-india")
            assert {one["type"] for one in story["timeline"]} >= {"MessageRouted", "ReportStatus", "MessageCharged"}
            routed = [line.split()[2] for line in first.lines if line.startswith("  To ")]
            assert routed == ["scheduled.", "failed.", "not_applicable."]
            settings = first.settings()
            assert settings["sms"] == {"enabled": True}
            assert settings["otp_scheduling"]["countries"] == ["ID", "IN"]
            assert [one["system"] for one in settings["business_systems"]] == ["crm"]
            assert len(settings["business_systems"][0]["intents"]) == 1
            for step in (
                "PostgreSQL runs",
                "Apache Kafka runs",
                "The topics and the tables are there",
                "The services run",
            ):
                assert any(re.match(rf" *\d+\.\d s  {step}", line) for line in first.lines), step
            assert first.said("Kafka bootstrap") == f"127.0.0.1:{ports['SWITCHBOARD_KAFKA_PORT']}"
            # Other commands too, which name who asks: one that sends, and one that reads broker and database.
            on = ("send", "ToggleSms", "--channel", "demo-whatsapp", "--account", "acme", "--data", '{"enabled": true}')
            for words in (on, ("audit", "verify", "--database")):
                odd.run(first.environment, *words)
            tour.saw(first.lines)
            tour.play()
            children = first.children()
            first.process.send_signal(signal.SIGTERM)
            assert first.process.wait(60) == 0
            assert psutil.wait_procs(children, timeout=30)[1] == []
            assert list((data / "kafka" / "logs").glob("switchboard.events-*"))

        second = Up(data, ports | tour.start())
        with _ended(second):
            assert second.settings() == settings
            assert second.said("API key") == first.said("API key")
            assert not any(_VERIFIED.search(line) for line in second.lines), "the walk is walked once"
            tour.saw(second.lines)
            tour.play()
            assert _VERIFIED.search(second.refresh_and_call())
            settings = second.settings()
            children = second.children()
            os.killpg(second.process.pid, signal.SIGKILL)
            second.process.wait()
            assert psutil.wait_procs(children, timeout=60)[1] == []

    third = Up(data, ports)
    with _ended(third):
        assert third.settings() == settings
        _kill(third, "kafka.Kafka")
        _kill(third, "postgres")
        _kill(third, "projector")
        assert _eventually(third.settings) == settings
        assert _eventually(third.switch_sms_off)["version"] > settings["version"]


@pytest.mark.parametrize("name", ["HTTP", "KAFKA"])
def test_a_port_that_is_taken_is_named(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {f"SWITCHBOARD_{one}_PORT": str(free_port()) for one in ("HTTP", "KAFKA", "POSTGRES")}
        ports[f"SWITCHBOARD_{name}_PORT"] = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", "up"],
            env=os.environ | ports | {"SWITCHBOARD_DATA_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(f"set SWITCHBOARD_{name}_PORT to a free port.")
    assert "Traceback" not in done.stderr
