"""What is written by hand in the TypeScript client, without its packages: `make clients` tests the whole of it."""

from __future__ import annotations

from tests.clients.node import CLIENT, run_tests
from tests.installation import Installation


def test_on_a_running_installation(installation: Installation) -> None:
    run_tests(installation, "test/sample/*.test.ts", "test/edge/*.test.ts")


def test_it_has_at_most_300_lines() -> None:
    files = list((CLIENT / "src").glob("*.ts"))
    assert len(files) > 1
    assert sum(len(file.read_text().splitlines()) for file in files) <= 300
