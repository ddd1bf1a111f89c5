"""The file of trusted issuers: what it may say, and sentences that repeat nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.gateway.authentication.oidc.configuration import OidcConfiguration, load
from services.gateway.authentication.roles import PLATFORM, Role, Scope

GRANT: dict[str, Any] = {"claims": {"groups": "ops"}, "roles": ["editor"], "account": "acme"}
ISSUER: dict[str, Any] = {"issuer": "https://login.example", "audiences": ["switchboard"], "grants": [GRANT]}
CONSOLE = {"label": "Example", "client_id": "console", "client_secret": "s3cret"}
DOCS = Path(__file__).parents[3] / "docs" / "access.md"


def written(path: Path, text: str) -> str:
    (path / "oidc.yaml").write_text(text)
    return str(path / "oidc.yaml")


def without(part: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in names}


def test_without_a_file_nobody_is_trusted() -> None:
    assert load(None) == OidcConfiguration()
    assert load(None).issuers == ()


def test_the_example_of_the_documentation_can_be_used(tmp_path: Path) -> None:
    example = DOCS.read_text().split("```yaml\n")[1].split("```")[0]
    [issuer] = load(written(tmp_path, example)).issuers
    assert issuer.algorithms == ("RS256",)
    assert issuer.console is not None
    assert issuer.console.client_secret is not None
    assert issuer.console.client_secret.get_secret_value() not in repr(issuer)
    granted = [grant.scope_for({"groups": "switchboard-operators", "hd": "example.com"}) for grant in issuer.grants]
    assert PLATFORM in granted


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"issuer": "http://login.example"}, "'issuers.0.issuer' is wrong: it must begin with https://"),
        ({"issuer": "https://login.example?tenant=1"}, "'issuers.0.issuer' is wrong: it has no query and no fragment"),
        (
            {"issuer": "https://login.example/" + "x" * 128},
            "'issuers.0.issuer' is wrong: string should have at",
        ),
        ({"audiences": []}, "'issuers.0.audiences' is wrong"),
        ({"algorithms": ["HS256"]}, "'issuers.0.algorithms.0' is wrong: input should be 'RS256'"),
        ({"algorithms": ["none"]}, "'issuers.0.algorithms.0' is wrong: input should be 'RS256'"),
        ({"algorithms": []}, "'issuers.0.algorithms' is wrong"),
        ({"skew_seconds": 3600}, "'issuers.0.skew_seconds' is wrong"),
        ({"grants": []}, "'issuers.0.grants' is wrong"),
        ({"grants": [GRANT | {"claims": {}}]}, "'issuers.0.grants.0.claims' is wrong"),
        ({"grants": [GRANT | {"roles": []}]}, "'issuers.0.grants.0.roles' is wrong"),
        ({"grants": [GRANT | {"roles": ["root"]}]}, "'issuers.0.grants.0.roles"),
        ({"grants": [without(GRANT, "account")]}, "a grant of scope 'account' needs one account or account_claim"),
        ({"grants": [GRANT | {"account_claim": "tenant"}]}, "a grant of scope 'account' needs one account or"),
        ({"grants": [GRANT | {"scope": "platform"}]}, "a grant of scope 'platform' has no account or account_claim"),
        ({"grants": [GRANT | {"scope": "channel"}]}, "a grant of scope 'channel' needs one channel"),
        ({"grants": [GRANT | {"scope": "provider"}]}, "a grant of scope 'provider' has no account or account_claim"),
        ({"secret": "s3cret"}, "'issuers.0.secret' is not a known field"),
        ({"console": CONSOLE}, "'console_url' is missing"),
        ({"console": CONSOLE | {"client_secret": ["s3cret"]}}, "'issuers.0.console.client_secret' is wrong"),
    ],
    ids=str,
)
def test_a_sentence_says_what_is_wrong(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    path = written(tmp_path, yaml.safe_dump({"issuers": [ISSUER | changed]}))
    with pytest.raises(ValueError, match=r"^'|^a grant") as refused:
        load(path)
    assert sentence in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_an_issuer_is_there_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="an issuer is there twice"):
        load(written(tmp_path, yaml.safe_dump({"issuers": [ISSUER, ISSUER]})))


@pytest.mark.parametrize("text", ["issuers: [", "- \x00", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_yaml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="the file is no YAML that can be read"):
        load(written(tmp_path, text))


def test_the_issuer_of_this_machine_needs_no_tls(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "localhost", "[::1]"):
        [issuer] = load(
            written(tmp_path, yaml.safe_dump({"issuers": [ISSUER | {"issuer": f"http://{host}:1"}]}))
        ).issuers
        assert issuer.issuer == f"http://{host}:1"


@pytest.mark.parametrize(
    ("scope", "granted"),
    [
        ({"account": "acme"}, Scope("acme")),
        ({"account_claim": "tenant"}, Scope("shop")),
        ({"scope": "channel", "account": "acme", "channel": "ch-1"}, Scope("acme", "ch-1")),
        ({"scope": "provider", "provider": "p"}, Scope(provider="p")),
        ({"scope": "platform"}, PLATFORM),
    ],
)
def test_a_grant_has_one_scope(scope: dict[str, str], granted: Scope) -> None:
    issuer = ISSUER | {"grants": [without(GRANT, "account") | scope]}
    [grant] = OidcConfiguration.model_validate({"issuers": [issuer]}).issuers[0].grants
    assert grant.scope_for({"groups": ["ops"], "tenant": "shop"}) == granted
    assert grant.roles == {Role.EDITOR}
