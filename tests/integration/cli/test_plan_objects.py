"""The objects of a plan and the policy's verdict, with a real API server: its checks, its rights and its words."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.cli.conftest import Cli, NewUser
from support.apiserver import ApiServer
from support.objects import Objects
from support.samples import lorajob
from unit.cli.test_deployment import FILE, MOUNT, VOLUME, deployment
from unit.operator.test_golden import CASES, GOLDEN

Document = dict[str, Any]
IMAGE = "registry.example/lora/trainer:1"
RULES = "policy: {rules: [{namespaces: ['cli-*'], maxGPUs: 8}, {name: small, namespaces: ['*'], maxGPUs: 4}]}"
LABELS = {"app.kubernetes.io/name": "lora-operator", "app.kubernetes.io/component": "controller"}
PLANS = {"apiGroups": ["lora-operator.io"], "resources": ["lorajobs"], "verbs": ["get", "create", "patch"]}
READS_DEPLOYMENTS = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]}


def write(folder: Path, document: Document) -> str:
    document["metadata"].pop("namespace", None)
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.fixture
def operator(cluster: Objects) -> str:
    """Return the namespace of an operator with a policy; nothing of it runs."""
    made = deployment({"LORA_TRAINER_IMAGE": IMAGE, "LORA_CONFIG": FILE}, mounts=[MOUNT], volumes=[VOLUME])
    pod = made["spec"]["template"]["spec"]
    for each in pod["containers"]:
        each["image"] = "operator:1"
    template = {"metadata": {"labels": LABELS}, "spec": pod}
    spec = {"selector": {"matchLabels": LABELS}, "template": template}
    head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "lora-operator", "labels": LABELS}}
    cluster.create(head | {"spec": spec})
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "policy"}}
    cluster.create(config | {"data": {"config.yaml": RULES}})
    return cluster.namespace


@pytest.mark.parametrize("case", CASES)
def test_the_server_takes_the_objects(cli: Cli, cluster: Objects, server: ApiServer, tmp_path: Path, case: str) -> None:
    document = yaml.safe_load((GOLDEN / case / "lorajob.yaml").read_text())
    said = cli("plan", "--objects", "-f", write(tmp_path, document))
    assert said.code == 0
    names = [f"{each['kind']}/{each['metadata']['name']}" for each in yaml.safe_load_all(said.out)]
    done = server.run_kubectl("apply", "--dry-run=server", "-f", "-", stdin=said.out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("created (server dry run)") == len(names)
    assert cluster.list("Job") == cluster.list("LoRAJob") == []


def test_the_policy_and_the_image_of_the_operator(cli: Cli, cluster: Objects, operator: str, tmp_path: Path) -> None:
    place = ["plan", "--no-preflight", "--operator-namespace", operator]
    said = cli(*place, "-f", write(tmp_path, lorajob("bot")))
    assert said.code == 0
    assert f"policy: allowed by 2 rules of ConfigMap {operator}/policy\n" in said.out
    assert f"operator: Deployment {operator}/lora-operator, trainer image {IMAGE}\n" in said.out
    large = write(tmp_path, lorajob("bot", resources={"gpus": 6}))
    refused = cli(*place, "-f", large)
    assert refused.code == 1
    assert "policy: refused: spec.resources.gpus: 6, and rule 'small' of the operator's policy allows 4" in refused.out
    (planned,) = json.loads(cli(*place, "-o", "json", "-f", large).out)
    assert (planned["objects"], planned["policy"]["verdict"], planned["policy"]["rules"]) == ([], "Refused", 2)


@pytest.mark.parametrize(
    ("rules", "what"),
    [
        ([PLANS], "you may not list Deployments in namespace {}"),
        ([PLANS, READS_DEPLOYMENTS], "you may not read ConfigMap {}/policy"),
    ],
)
def test_a_user_who_may_not_read_the_policy_is_told_so(
    cli: Cli, operator: str, new_user: NewUser, tmp_path: Path, rules: list[Any], what: str
) -> None:
    arguments = ["plan", "--no-preflight", "--operator-namespace", operator, "-f", write(tmp_path, lorajob("bot"))]
    said = cli(*arguments, kubeconfig=new_user("planner", *rules))
    assert (said.code, said.err) == (0, "")
    way_out = "ask who runs the operator or give --operator-config FILE"
    assert f"policy: not known: {what.format(operator)}; {way_out}\n" in said.out
    assert "bot-1-train" in said.out


def test_a_job_that_runs_is_planned_as_the_server_has_it(cli: Cli, cluster: Objects, tmp_path: Path) -> None:
    applied = cli("submit", "-f", write(tmp_path, lorajob("bot")))
    assert applied.code == 0
    uid = cluster.get("LoRAJob", "bot")["metadata"]["uid"]  # type: ignore[index]
    digest = json.loads(cli("plan", "--no-preflight", "-o", "json", "-f", str(tmp_path / "job.yaml")).out)[0]
    spec_digest = digest["objects"][0]["metadata"]["annotations"]["lora-operator.io/spec-digest"]
    status = {"observedGeneration": 1, "run": 1, "specDigest": spec_digest, "conditions": []}
    cluster.set_status("LoRAJob", "bot", status)
    same = json.loads(cli("plan", "--no-preflight", "-o", "json", "-f", str(tmp_path / "job.yaml")).out)[0]
    assert same["notes"] == ["run 1 goes on: what it has of its objects already is not made again"]
    assert same["objects"][0]["metadata"]["ownerReferences"][0]["uid"] == uid
    other = write(tmp_path, lorajob("bot", training={"maxSteps": 3}))
    changed = json.loads(cli("plan", "--no-preflight", "-o", "json", "-f", other).out)[0]
    assert changed["notes"] == ["run 1 makes way for run 2: another adapter, or a restart, is asked for"]
    assert [each["metadata"]["name"] for each in changed["objects"]] == ["bot-2-preflight", "bot-2-train"]
