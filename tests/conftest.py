"""What every test may ask for: a broker, a database, and a whole Switchboard on them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis.errors import HypothesisSideeffectWarning
from hypothesis.internal.charmap import charmap, intervals_from_codec

from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.logging_setup import configure_structlog
from tests.e2e.browser import NO_BROWSER
from tests.installation import Installation, fresh_database
from tests.otlp_receiver import OtlpReceiver
from tests.servers import Servers, servers

# The brokers of tests live shortly: a compiler that optimises less costs less than it brings.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
# The same examples each time, without deadlines, so that only a change makes a test fail. Others are drawn with
# `--hypothesis-profile=default`.
settings.load_profile("ci")
configure_structlog()  # so that `caplog` sees the events, and standard output does not


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        # Makes Hypothesis' tables of letters once; on a new machine the workers would make them all at once, and race.
        with warnings.catch_warnings(category=HypothesisSideeffectWarning, action="ignore"):
            charmap()
            intervals_from_codec("utf-8")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if any(NO_BROWSER in str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])):
        terminalreporter.section("THE CONSOLE WAS NOT TESTED", red=True)
        terminalreporter.line(
            f"Its tests were skipped: {NO_BROWSER}. Install it, such as with apt-get install chromium."
        )


@pytest.fixture(scope="session")
def shared_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A broker and a database that all tests share, from the environment, by testcontainers, or embedded."""
    with servers(tmp_path_factory.mktemp("servers")) as found:
        yield found


@pytest.fixture(scope="session")
def spans() -> Iterator[OtlpReceiver]:
    """Gets the spans of the installation that all tests share."""
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def installation(
    shared_servers: Servers, spans: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """A running Switchboard that all tests share: leave it running, and use names of your own (`fresh`)."""
    dsn = fresh_database(shared_servers.dsn)
    directory = tmp_path_factory.mktemp("installation")
    bootstrap_servers, logins = shared_servers.bootstrap_servers, shared_servers.logins
    with Installation(bootstrap_servers, dsn, directory, logins=logins, variables=spans.environment) as running:
        yield running


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker for one file of tests, which may be killed and started again."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def database_url(shared_servers: Servers) -> str:
    """An empty database for one test."""
    return fresh_database(shared_servers.dsn)
