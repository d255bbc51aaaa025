"""The chart: what it installs, what it refuses, and that the API server takes every rendering."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from generate.install import Installation, install_objects
from generate.network_policy import Opening, operator_policy, trainer_policy
from integration.chart.rendering import (
    CASES,
    KEEP,
    MANIFESTS,
    by_key,
    container,
    installed_by_hand,
    installed_by_helm,
    render,
    the,
)
from lora_api.crd import all_crds
from lora_operator.app.config import read_config
from support.apiserver import ApiServer
from support.helm import CHART, NAMESPACE, RELEASE, Helm, objects_of

pytestmark = pytest.mark.timeout(1500)
"""The first test may build Helm."""
GOLDEN = Path(__file__).parent / "golden"
TEAMS = ("team-a", "team-b")


def test_the_defaults_install_what_the_manifest_installs(helm: Helm) -> None:
    expected = installed_by_hand(list(yaml.safe_load_all((MANIFESTS / "install.yaml").read_text())))
    assert installed_by_helm(objects_of(helm.template())) == expected


@pytest.mark.parametrize(
    ("values", "installation"),
    [
        ({"namespaces": list(TEAMS)}, Installation(namespaces=TEAMS)),
        ({"webhook": {"enabled": False}}, Installation(webhook=False)),
        ({"webhook": {"failurePolicy": "Ignore"}}, Installation(failure_policy="Ignore")),
        ({"config": {"policy": {"rules": []}}}, Installation(config="policy:\n  rules: []\n")),
    ],
    ids=["namespaces", "no-webhook", "failure-policy", "config"],
)
def test_values_change_what_the_flags_of_the_manifest_change(
    helm: Helm, values: dict[str, Any], installation: Installation
) -> None:
    expected = installed_by_hand(install_objects(installation))
    assert installed_by_helm(objects_of(helm.template(values=values))) == expected


def test_the_network_policies_are_those_of_the_manifests(helm: Helm) -> None:
    egress = [{"cidr": "10.1.2.0/24", "port": 9000}]
    trainer = {"enabled": True, "namespaces": ["team-a"], "egress": egress}
    found = objects_of(helm.template(values={"networkPolicy": {"enabled": True, "trainer": trainer}}))
    policies = installed_by_helm([each for each in found if each["kind"] == "NetworkPolicy"])
    assert policies == by_key([operator_policy(), trainer_policy("team-a", (Opening.parse("10.1.2.0/24:9000"),))])


def test_crds_stay_only_if_they_are_to(helm: Helm) -> None:
    gone = objects_of(helm.template("--set", "crds.keep=false"))
    crds = [each for each in gone if each["kind"] == "CustomResourceDefinition"]
    assert {each["metadata"]["name"] for each in crds} == {each["metadata"]["name"] for each in all_crds().values()}
    assert not [each for each in crds if KEEP in each["metadata"].get("annotations", {})]
    without = objects_of(helm.template("--set", "crds.enabled=false"))
    assert not [each for each in without if each["kind"] == "CustomResourceDefinition"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_helm_finds_no_fault(helm: Helm, case: Path) -> None:
    done = helm.run("lint", "--strict", str(CHART), "--values", str(case), "--namespace", NAMESPACE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_rendering_is_what_was_reviewed(helm: Helm, case: Path, update_chart: bool) -> None:
    """The CRDs are left out: they are compared with their types elsewhere."""
    found = helm.template("--values", str(case), "--set", "crds.enabled=false")
    golden = GOLDEN / f"{case.stem.removesuffix('-values')}.yaml"
    if update_chart:
        golden.write_text(found)
    assert found == golden.read_text(), "pytest tests/integration/chart --update-chart writes it anew"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_api_server_takes_every_rendering(helm: Helm, server: ApiServer, case: Path) -> None:
    """In the way of `kubectl apply --server-side`, by which unknown fields are refused."""
    text = helm.template("--values", str(case))
    done = server.run_kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=text)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(objects_of(text))
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_its_pods_are_admitted_where_pods_must_be_restricted(helm: Helm, server: ApiServer, case: Path) -> None:
    for deployment in (each for each in render(helm, case) if each["kind"] == "Deployment"):
        template, name = deployment["spec"]["template"], deployment["metadata"]["name"]
        metadata = template["metadata"] | {"name": name, "namespace": NAMESPACE}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        done = server.run_kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_operator_takes_its_arguments_variables_and_file(helm: Helm, tmp_path: Path, case: Path) -> None:
    objects = render(helm, case)
    found = container(objects)
    environment = {each["name"]: each.get("value", "a-pod") for each in found["env"]}
    assert len(environment) == len(found["env"])
    if "LORA_CONFIG" in environment:
        file = tmp_path / "config.yaml"
        file.write_text(the("ConfigMap", objects, "lora-operator")["data"]["config.yaml"])
        environment["LORA_CONFIG"] = str(file)
    config = read_config(found.get("args", []), environment | {"KUBERNETES_SERVICE_HOST": "10.96.0.1"})

    values = yaml.safe_load(case.read_text())
    assert config.namespaces == tuple(values.get("namespaces", []))
    assert len(config.policy.rules) == len(values.get("config", {}).get("policy", {}).get("rules", []))
    assert config.leader_election == values.get("leaderElection", {}).get("enabled", True)
    if config.webhook is not None:
        assert config.webhook.service == the("Service", objects, config.webhook.service)["metadata"]["name"]


def test_two_replicas_outlive_a_node(helm: Helm) -> None:
    objects = render(helm, CHART / "ci" / "ha-values.yaml")
    deployment, budget = the("Deployment", objects), the("PodDisruptionBudget", objects)
    pod = deployment["spec"]["template"]
    assert (deployment["spec"]["replicas"], budget["spec"]["minAvailable"]) == (2, 1)
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    assert [each["labelSelector"] for each in pod["spec"]["topologySpreadConstraints"]] == [
        budget["spec"]["selector"]
    ] * 2
    assert budget["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert all(each["metadata"]["labels"]["team"] == "platform" for each in objects)


def test_an_image_is_named_by_registry_repository_and_tag_or_digest(helm: Helm) -> None:
    found = container(render(helm, CHART / "ci" / "ha-values.yaml"))
    environment = {each["name"]: each.get("value") for each in found["env"]}
    registry = "registry.example:5000/lora"
    assert found["image"] == f"{registry}/lora-operator:0.1.0"
    assert environment["LORA_TRAINER_IMAGE"] == f"{registry}/lora-trainer:0.1.0"
    assert environment["LORA_AGENT_IMAGE"].startswith(f"{registry}/lora-agent@sha256:0123")


def test_cert_manager_makes_the_certificate_and_the_operator_has_no_right_to(helm: Helm) -> None:
    objects = render(helm, CHART / "ci" / "cert-manager-values.yaml")
    certificate = the("Certificate", objects, "tuning-webhook")
    entry = the("MutatingWebhookConfiguration", objects)
    service = entry["webhooks"][0]["clientConfig"]["service"]
    assert entry["metadata"]["name"] == "lora-operator", "the one name that the operator knows"
    assert f"{service['name']}.{service['namespace']}.svc" in certificate["spec"]["dnsNames"]
    reference = f"{certificate['metadata']['namespace']}/{certificate['metadata']['name']}"
    assert entry["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": reference}
    issuer = the("Issuer", objects, certificate["spec"]["issuerRef"]["name"])
    authority = the("Certificate", objects, issuer["spec"]["ca"]["secretName"])
    assert authority["spec"]["isCA"], "or each renewal would break the trust until the new file is in every pod"
    assert the("Issuer", objects, authority["spec"]["issuerRef"]["name"])["spec"] == {"selfSigned": {}}
    (volume,) = (each for each in the("Deployment", objects)["spec"]["template"]["spec"]["volumes"] if "secret" in each)
    assert volume["secret"]["secretName"] == certificate["spec"]["secretName"]
    rules = [rule for each in objects if each["kind"].endswith("Role") for rule in each["rules"]]
    assert not [each for each in rules if "mutatingwebhookconfigurations" in each["resources"]]


def test_another_issuer_may_be_named(helm: Helm) -> None:
    reference = {"name": "company", "kind": "ClusterIssuer"}
    certificates = {"source": "certManager", "certManager": {"issuerRef": reference}}
    objects = objects_of(helm.template(values={"webhook": {"certificates": certificates}}))
    assert the("Certificate", objects)["spec"]["issuerRef"] == reference
    assert not [each for each in objects if each["kind"] == "Issuer"]


def test_without_an_election_there_is_never_a_second_pod(helm: Helm) -> None:
    objects = render(helm, CHART / "ci" / "no-webhook-values.yaml")
    assert the("Deployment", objects)["spec"]["strategy"] == {"type": "Recreate"}
    assert not [each for each in objects if "lease" in each["metadata"]["name"]]
    refusal = helm.refusal({"leaderElection": {"enabled": False}, "replicaCount": 2})
    assert "replicaCount: 2 replicas need leaderElection.enabled" in refusal


def test_a_policy_for_trainer_pods_needs_namespaces(helm: Helm) -> None:
    refusal = helm.refusal({"networkPolicy": {"trainer": {"enabled": True}}})
    assert "networkPolicy.trainer.namespaces: name the namespaces" in refusal


def test_alerts_may_be_left_out_and_get_labels(helm: Helm) -> None:
    (group,) = the("PrometheusRule", render(helm, CHART / "ci" / "monitoring-values.yaml"))["spec"]["groups"]
    names = [each["alert"] for each in group["rules"]]
    assert "LoRAOperatorDown" in names
    assert "LoRAJobsStartSlowly" not in names
    assert all(each["labels"].keys() == {"severity", "team"} for each in group["rules"])
    assert "{{ $value" in str(group["rules"]), "it is Prometheus that fills this in"


def test_monitors_find_the_pods_by_ports_that_are_there(helm: Helm) -> None:
    objects = render(helm, CHART / "ci" / "monitoring-values.yaml")
    ports = {each["name"] for each in container(objects)["ports"]} | {"progress", "lora-agent"}
    endpoints = [
        endpoint["port"]
        for each in objects
        if each["kind"] in ("PodMonitor", "ServiceMonitor")
        for endpoint in each["spec"].get("podMetricsEndpoints", each["spec"].get("endpoints"))
    ]
    assert len(endpoints) == 4
    assert set(endpoints) <= ports
    monitor, service = the("ServiceMonitor", objects), the("Service", objects, "lora-operator-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    webhook = the("Service", objects, "lora-operator-webhook")["metadata"]["labels"]
    assert not monitor["spec"]["selector"]["matchLabels"].items() <= webhook.items(), "that one has no metrics"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicas": 2}, "replicas"),
        ({"image": {"tags": "1"}}, "tags"),
        ({"webhook": {"certificates": {"source": "certmanager"}}}, "source"),
        ({"webhook": {"failurePolicy": "ignore"}}, "failurePolicy"),
        ({"replicaCount": "two"}, "replicaCount"),
        ({"image": {"digest": "sha256:abc"}}, "digest"),
        ({"tolerations": [{"keys": "gpu"}]}, "keys"),
        ({"affinity": {"nodeAffinty": {}}}, "nodeAffinty"),
        ({"resources": {"limit": {"memory": "1Gi"}}}, "limit"),
        ({"containerSecurityContext": {"runAsNonRot": True}}, "runAsNonRot"),
        ({"config": {"policy": {"rules": [{"namespaces": ["*"], "basemodels": []}]}}}, "basemodels"),
        ({"config": {"policy": {"rules": [{"baseModels": []}]}}}, "namespaces"),
        ({"namespaces": ["Team_A"]}, "namespaces"),
        ({"networkPolicy": {"trainer": {"egress": [{"cidr": "10.0.0.0/8"}]}}}, "port"),
        ({"prometheusRule": {"disabled": ["LoRAOperatorIsDown"]}}, "disabled"),
        ({"crds": {"keep": "yes please"}}, "keep"),
        ({"dashboard": {"enabled": True, "auth": "none"}}, "auth"),
        ({"dashboard": {"enabled": True, "hosts": ["https://lora.example.org"]}}, "hosts"),
        ({"dashboard": {"httpRoute": {"parentRefs": [{"namespace": "gateways"}]}}}, "name"),
        ({"dashboard": {"image": {"tag": "1"}}}, "image"),
    ],
    ids=lambda each: each if isinstance(each, str) else None,
)
def test_a_slip_is_refused_before_anything_is_installed(helm: Helm, values: dict[str, Any], said: str) -> None:
    refusal = helm.refusal(values)
    assert "values don't meet the specifications of the schema" in refusal
    assert said in refusal


def test_a_parent_chart_may_include_it(helm: Helm, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    dependency = {"name": "lora-operator", "version": "0.1.0", "repository": f"file://{CHART}"}
    about = {"apiVersion": "v2", "name": "parent", "version": "1.0.0"}
    about["dependencies"] = [dependency | {"condition": "lora-operator.enabled"}]
    (parent / "Chart.yaml").write_text(yaml.safe_dump(about))
    values = {"global": {"domain": "example.com"}, "lora-operator": {"enabled": True, "replicaCount": 2}}
    (parent / "values.yaml").write_text(yaml.safe_dump(values))
    helm("dependency", "update", str(parent))
    objects = objects_of(helm("template", RELEASE, str(parent), "--namespace", NAMESPACE))
    assert the("Deployment", objects)["spec"]["replicas"] == 2


def test_the_notes_tell_the_next_commands_and_what_is_risky(helm: Helm) -> None:
    def notes(**values: Any) -> str:
        arguments = ("install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--dry-run=client", "--values", "-")
        return helm(*arguments, stdin=yaml.safe_dump(values)).partition("NOTES:")[2]

    plain = notes()
    assert "kubectl -n lora-system rollout status deployment/lora-operator" in plain
    assert "kubectl -n default get lorajobs --watch" in plain
    assert "deletes the CRDs" not in plain
    assert "kubectl -n team-a" in notes(namespaces=["team-a"])
    assert "deletes the CRDs" in notes(crds={"keep": False})
    assert "The operator waits until they are there" in notes(crds={"enabled": False})
    assert "lora-operator.io/inject" not in notes(webhook={"enabled": False})


def test_a_package_holds_what_a_cluster_needs_and_no_more(helm: Helm, tmp_path: Path) -> None:
    helm("package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.glob("*.tgz")
    assert package.name == "lora-operator-0.1.0.tgz"
    assert package.stat().st_size < 200_000, "a release is kept in a Secret, of 1 MiB at most"
    assert helm.template(chart=package) == helm.template()


def test_a_name_of_digits_stays_a_name(helm: Helm) -> None:
    values = {
        "nameOverride": "2024",
        "namespaces": ["4711"],
        "priorityClassName": "7",
        "networkPolicy": {"enabled": True, "trainer": {"enabled": True}},
        "metrics": {"podMonitor": {"enabled": True}, "workloadPodMonitors": {"enabled": True}},
        "dashboard": {
            "enabled": True,
            "hosts": ["1.5"],
            "priorityClassName": "7",
            "ingress": {"enabled": True, "className": "7"},
        },
    }
    digits = {"2024", "4711", "42", "7", "1.5"}
    rendered = objects_of(helm.template("--namespace", "42", values=values))
    found = [each for each in _leaves(rendered) if str(each) in digits]
    assert {each for each in found if isinstance(each, str)} == digits
    assert [each for each in found if not isinstance(each, str)] == []


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    else:
        yield value
