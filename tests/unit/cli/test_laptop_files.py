"""What a developer's machine keeps and says: its secret in a private file, and the API key only where it is safe."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from services.cli.development_secret import development_secret
from services.cli.errors import CliError
from services.cli.http_api import HttpApi


def test_the_secret_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    first, second = development_secret(environment), development_secret(environment)
    assert (first.is_new, second.is_new) == (True, False)
    assert first.secret == second.secret
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "mode", "sentence"),
    [
        ("whsec_" + "A" * 43 + "=", 0o644, "is not yours alone"),
        ("whsec_AAAA", 0o600, "holds no secret"),
        ("no base64!", 0o600, "holds no secret"),
    ],
)
def test_a_file_that_cannot_be_trusted(tmp_path: Path, text: str, mode: int, sentence: str) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    path = development_secret(environment).path
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(CliError, match=sentence):
        development_secret(environment)


@pytest.mark.parametrize(
    ("url", "key", "sentence"),
    [
        ("", "sb_1", "SWITCHBOARD_API_URL is not set"),
        ("https://api.example", "", "SWITCHBOARD_API_KEY is not set"),
        ("http://api.example", "sb_1", "would travel unencrypted"),
        ("api.example", "sb_1", "it must be like https://"),
        ("https://api.example", "sb_\n1", "is no API key"),
    ],
)
def test_an_api_that_is_not_asked(url: str, key: str, sentence: str) -> None:
    with pytest.raises(CliError, match=sentence):
        HttpApi.from_environment({"SWITCHBOARD_API_URL": url, "SWITCHBOARD_API_KEY": key})


@pytest.mark.parametrize("url", ["http://localhost:8080", "http://127.0.0.1:8080/", "https://api.example"])
def test_an_api_that_is_asked(url: str) -> None:
    api = HttpApi.from_environment({"SWITCHBOARD_API_URL": url, "SWITCHBOARD_API_KEY": "sb_1"})
    assert api.url == url.rstrip("/")
