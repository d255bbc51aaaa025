"""Security against a real API server: locked-down pods, least rights, the policy, and secrets that turn up nowhere."""

import base64
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from generate.install import NAME, NAMESPACE, Installation, install_objects
from generate.network_policy import operator_policy, trainer_policy
from lora_api.messages import TerminationMessage
from support.apiserver import ApiServer, free_port
from support.objects import Document, Objects, condition
from support.operator_process import IMAGE, Operator
from support.s3server import S3Server, open_s3_server
from support.samples import PREFLIGHT_DONE, lorajob
from support.tiny_models import save_tiny_model
from support.wait import wait_for

ROOT = Path(__file__).resolve().parents[3]
GOLDEN_JOBS = sorted((ROOT / "tests" / "golden").glob("*/job-*.yaml"))
TEMPLATES = {f"{each.parent.name}/{each.stem}": yaml.safe_load(each.read_text()) for each in GOLDEN_JOBS}
PREFLIGHT, TRAIN = "support-bot-1-preflight", "support-bot-1-train"


def apply(server: ApiServer, objects: list[Document], *arguments: str) -> None:
    done = server.run_kubectl("apply", "--server-side", *arguments, "-f", "-", stdin=yaml.safe_dump_all(objects))
    assert done.returncode == 0, done.stderr


def pod_of(template: Document) -> Document:
    return {"apiVersion": "v1", "kind": "Pod"} | json.loads(json.dumps(template["spec"]["template"]))


def try_pod(cluster: Objects, pod: Document) -> str:
    """Return why the namespace, which enforces `restricted`, refuses a pod; nothing if it takes it."""
    named = pod | {"metadata": pod["metadata"] | {"name": "trial"}}
    where = ("create", "--dry-run=server", "-n", cluster.namespace, "-f", "-")
    return cluster.server.run_kubectl(*where, stdin=yaml.safe_dump(named)).stderr


@pytest.fixture
def classes(cluster: Objects) -> Iterator[None]:
    """Make what the golden pods name: without it they would be refused for another reason."""
    pods = [each["spec"]["template"]["spec"] for each in TEMPLATES.values()]

    def named(field: str) -> set[str]:
        return {pod[field] for pod in pods if field in pod}

    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1}
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runc"}
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    made = [
        *(priority | {"metadata": {"name": each}} for each in named("priorityClassName")),
        *(runtime | {"metadata": {"name": each}} for each in named("runtimeClassName")),
        *(account | {"metadata": {"name": each}} for each in named("serviceAccountName")),
    ]
    apply(cluster.server, made, "-n", cluster.namespace)
    yield
    cluster.server.run_kubectl("delete", "-n", cluster.namespace, "-f", "-", stdin=yaml.safe_dump_all(made))


@pytest.mark.usefixtures("classes")
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_pod_passes_the_restricted_standard(cluster: Objects, name: str) -> None:
    assert try_pod(cluster, pod_of(TEMPLATES[name])) == ""


LOOSENED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("runAsNonRoot", {"runAsNonRoot": False}, {"runAsNonRoot": False}),
    ("seccompProfile", {"seccompProfile": {"type": "Unconfined"}}, {}),
    ("allowPrivilegeEscalation", {}, {"allowPrivilegeEscalation": True}),
    ("capabilities", {}, {"capabilities": {}}),
]


@pytest.mark.parametrize(("word", "pod_change", "container_change"), LOOSENED, ids=[each[0] for each in LOOSENED])
def test_the_same_pod_with_one_lock_less_is_refused(
    cluster: Objects, word: str, pod_change: dict[str, Any], container_change: dict[str, Any]
) -> None:
    pod = pod_of(TEMPLATES["minimal/job-train"])
    pod["spec"]["securityContext"] |= pod_change
    pod["spec"]["containers"][0]["securityContext"] |= container_change
    refusal = try_pod(cluster, pod)
    assert 'violates PodSecurity "restricted' in refusal
    assert word in refusal


def test_everything_that_is_installed_is_valid(server: ApiServer, cluster: Objects) -> None:
    namespaced = Installation(namespaces=(cluster.namespace,), config="policy: {}")
    apply(server, [each for each in install_objects() if each["kind"] == "Namespace"])
    apply(server, install_objects(), "--dry-run=server", "--force-conflicts")
    apply(server, install_objects(namespaced), "--dry-run=server", "--force-conflicts")
    apply(server, [trainer_policy(cluster.namespace), operator_policy()], "--dry-run=server")
    file = str(ROOT / "manifests" / "network-policy-trainer.yaml")
    done = server.run_kubectl("apply", "--dry-run=server", "-n", cluster.namespace, "-f", file)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def teams(server: ApiServer, cluster: Objects) -> Iterator[tuple[Objects, Objects, Objects]]:
    """Return three namespaces: two that are served, and one that is not."""
    made = [cluster]
    for number in (2, 3):
        made.append(Objects(server, f"{cluster.namespace}-{number}"))
        made[-1].create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made[-1].namespace}})
    yield made[0], made[1], made[2]
    for each in made:
        server.run_kubectl("delete", "lorajobs,jobs", "--all", "-n", each.namespace, "--wait=false")


def installed_account(server: ApiServer, namespaces: tuple[str, ...], folder: Path) -> Path:
    """Install the rights of a namespaced operator, and return a kubeconfig of its ServiceAccount."""
    kinds = {"Namespace", "ServiceAccount", "Role", "RoleBinding"}
    apply(server, [each for each in install_objects(Installation(namespaces=namespaces)) if each["kind"] in kinds])
    token = server.run_kubectl("create", "token", NAME, "-n", NAMESPACE)
    assert token.returncode == 0, token.stderr
    config = yaml.safe_load(server.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token.stdout.strip()}}]
    path = folder / "namespaced-kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def test_roles_alone_serve_two_namespaces(
    server: ApiServer, teams: tuple[Objects, Objects, Objects], tmp_path: Path
) -> None:
    served, others = teams[:2], teams[2]
    kubeconfig = installed_account(server, (served[0].namespace, served[1].namespace), tmp_path)
    command = [sys.executable, "-m", "lora_operator.app.main", "--trainer-image", IMAGE, "--progress", "direct"]
    environment = os.environ | {
        "KUBECONFIG": str(kubeconfig),
        "LORA_NAMESPACES": f"{served[0].namespace},{served[1].namespace}",
        "LORA_LISTEN": "127.0.0.1",
        "LORA_HEALTH_PORT": str(free_port()),
        "LORA_METRICS_PORT": str(free_port()),
        "LORA_LEADER_ELECTION": "true",
        "LORA_LEASE_NAMESPACE": NAMESPACE,
    }
    log = tmp_path / "operator.log"
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        try:
            others.create(lorajob())
            for team in served:
                team.create(lorajob())
                team.run_to_success("support-bot")
            assert others.list("Job") == [], "it has no right to look there"
            assert process.poll() is None
        finally:
            process.terminate()
    assert "orbidden" not in log.read_text()


def test_a_wrong_policy_ends_the_process_with_2_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("policy: {rules: [{namespaces: ['*'], image: [a]}]}")
    command = [sys.executable, "-m", "lora_operator.app.main", "--trainer-image", IMAGE]
    environment = os.environ | {"LORA_CONFIG": str(tmp_path / "config.yaml")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "policy.rules[0].image: no such field; write one of" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_job_against_the_policy_makes_nothing_and_says_why(
    server: ApiServer, cluster: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = {"namespaces": ["test-*"], "baseModels": ["s3://bases/*"], "images": [], "maxGPUs": 2}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"policy": {"rules": [rule]}}))
    monkeypatch.setenv("LORA_CONFIG", str(tmp_path / "config.yaml"))
    running = Operator(server, cluster.namespace, tmp_path)
    try:
        cluster.create(lorajob(baseModel={"uri": "s3://bases-evil/x"}))
        job = cluster.wait_for_condition("support-bot", "Stalled", "True")
        assert condition(job, "Stalled")["reason"] == "NotAllowed"
        assert job["status"]["failure"]["message"].startswith("spec.baseModel.uri: s3://bases-evil/x is not allowed")
        assert job["status"]["failure"]["hint"] == "use s3://bases/*, or ask who runs the operator"
        assert cluster.list("Job") == []
        cluster.patch("LoRAJob", "support-bot", {"spec": {"baseModel": {"uri": "s3://bases/x"}}})
        cluster.wait("Job", PREFLIGHT)
    finally:
        running.kill()


class Planted:
    """Values that may be found in one place only."""

    def __init__(self) -> None:
        self.access_key = f"AKIA{secrets.token_hex(8)}"
        self.secret_key = secrets.token_hex(20)
        self.hub_token = f"hf_{secrets.token_hex(16)}"
        self.variable = f"value-{secrets.token_hex(16)}"

    def secrets(self) -> list[Document]:
        def secret(name: str, data: dict[str, str]) -> Document:
            return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}

        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        return [secret("s3", keys), secret("hub", {"token": self.hub_token})]

    def spec(self) -> dict[str, Any]:
        return {
            "baseModel": {"uri": "hf://owner/gated", "tokenSecretRef": {"name": "hub"}},
            "storage": {"credentialsSecretRef": {"name": "s3"}},
            "pod": {"env": [{"name": "WANDB_API_KEY", "value": self.variable}]},
        }

    def found_in(self, text: str, *values: str) -> list[str]:
        forms = {form for each in values for form in (each, base64.b64encode(each.encode()).decode())}
        return [form for form in forms if form in text]


def play(cluster: Objects) -> None:
    """Play a run whose first training pod fails, and one job that the API server refuses."""
    pod = cluster.start_pod(PREFLIGHT)
    cluster.end_pod(pod["metadata"]["name"], 0, PREFLIGHT_DONE)
    cluster.complete_job(PREFLIGHT)
    pod = cluster.start_pod(TRAIN, running=False)
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s3" not found'}}
    cluster.set_pod_state(pod["metadata"]["name"], "Pending", waiting)
    cluster.wait_for_condition("support-bot", "Stalled", "True")
    words = TerminationMessage(reason="InternalError", message="lost the connection", hint="look at the log")
    cluster.end_pod(pod["metadata"]["name"], 70, words)
    cluster.wait_for_condition("support-bot", "Stalled", "False")
    pod = cluster.start_pod(TRAIN, 2)
    cluster.wait_for_condition("support-bot", "Running", "True")
    cluster.end_pod(pod["metadata"]["name"], 77, TerminationMessage(reason="NoPermission", message="S3 says 403"))
    cluster.fail_job(TRAIN, "PodFailurePolicy")
    cluster.wait_for_condition("support-bot", "Failed", "True")
    cluster.wait_for_condition("refused", "Stalled", "True")
    wait_for("the event of the end", lambda: "NoPermission" in [each["reason"] for each in cluster.list("Event")])


def without_environment(value: Any) -> Any:
    """Return a document without the `env` of its containers, where a user's variables have to be."""
    if isinstance(value, list):
        return [without_environment(each) for each in value]
    if isinstance(value, dict):
        return {key: without_environment(each) for key, each in value.items() if key != "env"}
    return value


def test_what_is_secret_turns_up_nowhere_else(
    server: ApiServer, cluster: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORA_LOG_LEVEL", "debug")  # the most that anybody can make the operator say
    planted = Planted()
    for each in planted.secrets():
        cluster.create(each)
    running = Operator(server, cluster.namespace, tmp_path)
    try:
        cluster.create(lorajob(**planted.spec()))
        bad = planted.spec()
        cluster.create(lorajob("refused", **bad | {"pod": bad["pod"] | {"labels": {"a": "no label!"}}}))
        play(cluster)
    finally:
        running.kill()

    kinds = ("LoRAJob", "LoRAAdapter", "Job", "Pod", "ConfigMap", "Service", "Event")
    documents = {kind: cluster.list(kind) for kind in kinds}
    assert all(documents[kind] for kind in ("LoRAJob", "Job", "Pod", "Event")), "there is something to search"
    assert planted.variable in json.dumps(documents["LoRAJob"]), "and what is searched for is there"
    for each in documents["LoRAJob"]:
        del each["spec"]["pod"]
    places = {kind: json.dumps(without_environment(each)) for kind, each in documents.items()}
    places["log"] = running.log.read_text()
    assert "support-bot" in places["log"]
    values = (planted.access_key, planted.secret_key, planted.hub_token, planted.variable)
    assert {place for place, text in places.items() if planted.found_in(text, *values)} == set()


BROKEN = '{"messages": [{"role": "user", "content": "%(text)s"}, {"role": "%(text)s", "content": "%(text)s"}]}'
GOOD = '{"messages": [{"role": "user", "content": "%(text)s"}, {"role": "assistant", "content": "%(text)s"}]}'
RUNS = [
    ("a run that goes well", GOOD, {}, 0),
    ("a broken row", BROKEN, {}, 65),
    ("a line that is no JSON", GOOD + "}", {}, 65),
    ("a wrong key", GOOD, {"AWS_SECRET_ACCESS_KEY": "wrong-%(text)s"}, 77),
]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3Server, str]]:
    """Return an S3 server, and a bucket with a tiny base model."""
    base = save_tiny_model("llama", tmp_path_factory.mktemp("base"))
    with open_s3_server(tmp_path_factory.mktemp("s3")) as server:
        name = server.new_bucket("planted")
        for file in base.iterdir():
            server.client().upload_file(str(file), name, f"base/{file.name}")
        yield server, name


@pytest.mark.parametrize(("row", "changes", "code"), [each[1:] for each in RUNS], ids=[each[0] for each in RUNS])
def test_the_trainer_says_nothing_of_keys_and_rows(
    bucket: tuple[S3Server, str], tmp_path: Path, row: str, changes: dict[str, str], code: int
) -> None:
    """The kubelet passes its last words on to the operator, and whoever may read logs may not read the data."""
    s3, name = bucket
    text, token = f"row-{secrets.token_hex(16)}", f"hf_{secrets.token_hex(16)}"
    prefix = f"out-{secrets.token_hex(4)}"
    rows = "\n".join(row % {"text": text} for _ in range(8))
    s3.client().put_object(Bucket=name, Key="rows.jsonl", Body=rows.encode())
    spec = {
        "baseModel": {"uri": f"s3://{name}/base"},
        "dataset": {"train": {"uri": f"s3://{name}/rows.jsonl", "format": "Messages"}},
        "output": {"uri": f"s3://{name}/{prefix}"},
        "storage": {"endpoint": s3.endpoint, "pathStyle": True},
        "training": {"maxSteps": 1},
        "resources": {"gpus": 0},
    }
    (tmp_path / "job.json").write_text(json.dumps({"namespace": "team-a", "name": "bot", "spec": spec}))
    (last_words := tmp_path / "last-words").touch()
    keys = s3.environment | {name: value % {"text": text} for name, value in changes.items()}
    own = {"HF_TOKEN": token, "LORA_TERMINATION_LOG": str(last_words), "LORA_SCRATCH": str(tmp_path / "scratch")}
    command = [sys.executable, "-m", "lora_trainer.cli", "preflight", "--job", str(tmp_path / "job.json")]
    done = subprocess.run(
        command, env=os.environ | keys | own, capture_output=True, text=True, timeout=120, check=False
    )
    said = {"output": done.stdout + done.stderr, "last words": last_words.read_text()}
    for each in s3.client().list_objects_v2(Bucket=name, Prefix=prefix).get("Contents", []):
        if each["Key"].endswith((".json", ".jsonl")):
            said[each["Key"]] = s3.client().get_object(Bucket=name, Key=each["Key"])["Body"].read().decode()
    assert done.returncode == code, said
    assert said["last words"]
    assert code or any(place.endswith("report.json") for place in said), "what is stored is searched too"
    secret = (text, token, s3.secret_key)
    assert {place for place, words in said.items() if any(each in words for each in secret)} == set()
