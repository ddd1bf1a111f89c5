"""The Helm chart: linted and rendered by Helm, and what it renders by the schemas of Kubernetes."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.cli.service_settings import SERVICES
from services.infrastructure.acls import FILE as ACLS
from tests.prometheus import DEPLOY, rules

_CHART = DEPLOY / "helm" / "switchboard"
_ALL = '{"autoscaling": {"enabled": true}, "strimzi": {"enabled": true}, "secretOf": {"decider": "decider-login"}}'
_OWN_SCHEMAS = {"ScaledObject", "KafkaUser"}
"""Of KEDA and Strimzi: Kubernetes has no schema for them."""


@functools.cache
def _helm(values: str, chart: Path = _CHART) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chart", str(chart), values],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _rendered(values: str) -> list[dict[str, Any]]:
    found = _helm(values)
    assert found["error"] is None
    return [one for text in found["files"].values() for one in yaml.safe_load_all(text) if one]


def _validate(resource: dict[str, Any]) -> None:
    kubernetes_validate.validate(resource, "1.37.0", strict=True)


def test_helm_lints_it() -> None:
    lint = _helm("{}")["lint"]
    assert lint["errors"] == []
    assert [one["error"] for one in lint["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("values", ["{}", _ALL], ids=["defaults", "all"])
def test_kubernetes_knows_what_it_renders(values: str) -> None:
    resources = _rendered(values)
    assert {one["metadata"]["name"] for one in resources if one["kind"] == "Deployment"} == {
        f"trial-{service}" for service in SERVICES
    }
    for one in resources:
        if one["kind"] not in _OWN_SCHEMAS:
            _validate(one)


def test_kubernetes_refuses_a_misspelt_field() -> None:
    deployment = next(one for one in _rendered("{}") if one["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        _validate(deployment)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ('{"services": {"decider": {"replicas": 0}}}', "replicas"),
        ('{"services": {"deciders": {"replicas": 1}}}', "deciders"),
        ('{"settings": {"SWITCHBOARD_KEYRING": "k:AAAA"}}', "SWITCHBOARD_KEYRING"),
        ('{"settings": {"SWITCHBOARD_PARTITIONS": 8}}', "SWITCHBOARD_PARTITIONS"),
        ('{"secret": ""}', "secret"),
        ('{"autoscaling": {"prometheus": "prometheus:9090"}}', "prometheus"),
    ],
    ids=["none", "misspelt service", "a secret", "a number", "no secret", "no address"],
)
def test_helm_refuses_wrong_values(values: str, said: str) -> None:
    assert said in (_helm(values)["error"] or "")


def test_no_container_has_root_or_writes_its_file_system() -> None:
    pods = [one["spec"]["template"]["spec"] for one in _rendered(_ALL) if one["kind"] in ("Deployment", "Job")]
    assert len(pods) == len(SERVICES) + 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_it_scales_on_our_lag() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    scaled = [one for one in _rendered(_ALL) if one["kind"] == "ScaledObject"]
    assert len(scaled) == len(SERVICES) - 1
    for one in scaled:
        query = one["spec"]["triggers"][0]["metadata"]["query"]
        assert query.removeprefix("max(").partition("{")[0] in recorded


def test_strimzi_users_have_the_rights_of_the_one_file() -> None:
    rights = yaml.safe_load(ACLS.read_text())
    users = {one["metadata"]["name"]: one["spec"] for one in _rendered(_ALL) if one["kind"] == "KafkaUser"}
    assert set(users) == set(rights)
    for principal, given in rights.items():
        acls = users[principal]["authorization"]["acls"]
        for right, operation in (("reads", "Read"), ("writes", "Write"), ("reads_settings", "DescribeConfigs")):
            topics = [
                acl["resource"]["name"]
                for acl in acls
                if acl["resource"]["type"] == "topic" and operation in acl["operations"]
            ]
            assert topics == given.get(right, []), (principal, right)
