"""The commands on a real API server: its validation, its rights and its words."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.cli.conftest import Cli, NewUser
from support.objects import Objects
from support.samples import ADAPTER, DIGEST, PROGRESS, RESOLVED, lorajob

NOW = "2026-01-02T03:04:05Z"


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    told = {"type": kind, "status": status, "reason": reason, "message": message}
    return told | {"observedGeneration": 1, "lastTransitionTime": NOW}


def write(folder: Path, *documents: dict[str, Any]) -> str:
    path = folder / "jobs.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)


def make_job(cluster: Objects, *conditions: dict[str, Any], **status: Any) -> None:
    """Make a LoRAJob with the status that an operator would have written."""
    cluster.create(lorajob("bot"))
    cluster.set_status("LoRAJob", "bot", {"observedGeneration": 1, "run": 1, "conditions": list(conditions)} | status)


def test_submit_creates_then_changes_nothing_then_changes(cli: Cli, cluster: Objects, tmp_path: Path) -> None:
    assert cli("submit", "-f", write(tmp_path, lorajob("bot"), lorajob("two"))).code == 0
    same = cli("submit", "-f", write(tmp_path, lorajob("bot")))
    assert same.out == f"lorajob/bot unchanged in namespace {cluster.namespace}\n"
    changed = cli("submit", "-f", write(tmp_path, lorajob("bot", training={"maxSteps": 3})), "--output", "json")
    assert json.loads(changed.out)[0]["metadata"]["generation"] == 2
    job = cluster.get("LoRAJob", "bot")
    assert job is not None
    assert job["spec"]["training"] == {"maxSteps": 3}  # no default was written into the object
    assert [each["manager"] for each in job["metadata"]["managedFields"]] == ["kubectl-lora"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"lora": {"rnak": 4}}, "spec.lora.rnak: there is no such field; did you mean rank?"),
        ({"training": {"epochs": 1, "maxSteps": 1}}, "write either epochs or maxSteps, not both"),
        ({"output": {"uri": "file:///tmp/out"}}, "write s3://bucket or s3://bucket/prefix"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_applied(
    cli: Cli, cluster: Objects, tmp_path: Path, spec: dict[str, Any], words: str
) -> None:
    said = cli("submit", "-f", write(tmp_path, lorajob("bad", **spec)))
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert words in said.err
    assert cluster.get("LoRAJob", "bad") is None


def test_a_file_whose_second_job_is_wrong_applies_not_even_the_first(
    cli: Cli, cluster: Objects, tmp_path: Path
) -> None:
    assert cli("submit", "-f", write(tmp_path, lorajob("good"), lorajob("bad", lora={"rank": 0}))).code == 1
    assert cluster.get("LoRAJob", "good") is None


def test_a_field_that_another_owns_is_not_taken_from_it(cli: Cli, cluster: Objects, tmp_path: Path) -> None:
    cluster.create(lorajob("bot", training={"maxSteps": 5}))
    said = cli("submit", "-f", write(tmp_path, lorajob("bot", training={"maxSteps": 6})))
    assert said.code == 1
    assert "maxSteps: conflict with" in said.err


def test_a_file_with_another_namespace_than_the_one_asked_for_is_wrong_usage(cli: Cli, tmp_path: Path) -> None:
    document = lorajob("bot") | {"metadata": {"name": "bot", "namespace": "elsewhere"}}
    assert cli("submit", "-f", write(tmp_path, document)).code == 2


def test_plan_asks_the_server_and_leaves_nothing(cli: Cli, cluster: Objects, tmp_path: Path) -> None:
    good = cli("plan", "--no-preflight", "-f", write(tmp_path, lorajob("bot")))
    assert good.code == 0
    assert "API server: accepted by CRD, CEL and admission, as generation 1\n" in good.out
    bad = lorajob("bot", output={"uri": "file:///tmp/out"})  # which a local run takes
    refused = cli("plan", "--no-preflight", "--output", "json", "-f", write(tmp_path, bad))
    assert refused.code == 1
    assert "write s3://bucket" in json.loads(refused.out)[0]["server"]
    assert cluster.list("LoRAJob") == []


def test_list_shows_phase_and_progress(cli: Cli, cluster: Objects) -> None:
    make_job(cluster, phase="Running", progress=PROGRESS.wire())
    said = cli("list")
    assert said.code == 0
    assert said.out.splitlines()[1].split()[:5] == ["bot", "Running", "1", "60/118", "1.4000"]
    assert cluster.namespace in cli("list", "-A").out


def test_why_says_that_the_operator_does_not_run(cli: Cli, cluster: Objects) -> None:
    make_job(cluster)
    cluster.patch("LoRAJob", "bot", {"spec": {"suspend": True}})
    said = cli("why", "bot")
    assert said.code == 0  # it was changed a moment ago
    assert "The operator has not looked at the last change of the object yet" in said.out


def test_why_reads_jobs_pods_and_events(cli: Cli, cluster: Objects) -> None:
    make_job(cluster, condition("Running", "False", "WaitingForPod", "Pod x starts"))
    labels = {"lora-operator.io/job": "bot", "lora-operator.io/run": "1", "lora-operator.io/stage": "train"}
    container = {"name": "trainer", "image": "none"}
    meta = {"name": "bot-1-train-x", "labels": labels}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}})
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "manifest unknown"}}
    cluster.set_pod_state("bot-1-train-x", "Pending", state)
    about = {"kind": "Pod", "name": "bot-1-train-x", "namespace": cluster.namespace}
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e1"}, "involvedObject": about}
    cluster.create(event | {"reason": "Failed", "message": "Failed to pull image", "type": "Warning"})
    said = cli("why", "bot")
    assert said.code == 1
    assert "Pod bot-1-train-x: waits: ImagePullBackOff" in said.out
    assert "Pod/bot-1-train-x: Failed: Failed to pull image" in said.out
    assert "Pod bot-1-train-x cannot pull its image: manifest unknown (ImagePullFailed)." in said.out


def test_why_of_a_name_that_both_kinds_have_explains_both(cli: Cli, cluster: Objects) -> None:
    make_job(cluster, condition("Succeeded", "True", "AdapterPublished"), adapter=ADAPTER.wire())
    source = {"uri": ADAPTER.uri, "digest": DIGEST}
    head = {"apiVersion": "lora-operator.io/v1alpha1", "kind": "LoRAAdapter", "metadata": {"name": "bot"}}
    cluster.create(head | {"spec": {"baseModel": {"name": "a/b"}, "source": source}})
    pods = [{"name": "vllm-0", "engine": "vllm", "state": "Failed", "reason": "EngineRefused", "message": "rank 64"}]
    status = {"observedGeneration": 1, "desiredPods": 1, "servedPods": "0/1", "pods": pods}
    cluster.set_status("LoRAAdapter", "bot", status)
    both = json.loads(cli("why", "bot", "-o", "json").out)
    assert [(each["standing"], each["reason"]) for each in both] == [
        ("Done", "AdapterPublished"),
        ("Trouble", "EngineRefused"),
    ]
    assert cli("why", "lorajob/bot").code == 0
    assert cli("why", "la/bot").code == 1
    assert "pod vllm-0: Failed: EngineRefused: rank 64" in cli("adapters").out


PASSED = condition("PreflightPassed", "True", "PreflightSucceeded")
SKIPPED = condition("PreflightPassed", "True", "PreflightSkipped")
LOST = condition("Failed", "True", "InputNotFound", "there is no bucket. What to do: correct it")


@pytest.mark.parametrize(
    ("conditions", "status", "code"),
    [
        ([LOST], {"completionTime": NOW}, 1),
        ([condition("Stalled", "True", "SecretNotFound", "Secret is missing. What to do: create it")], {}, 1),
        ([PASSED, condition("Scheduled", "False", "Unschedulable", "0/1 nodes: no gpu")], {}, 0),
        ([PASSED, condition("Admitted", "False", "Queued", "no quota")], {}, 0),
        ([PASSED, condition("Running", "False", "Retrying", "Another pod will follow")], {}, 0),
        ([PASSED, condition("Running", "True", "Training")], {"progress": PROGRESS.wire()}, 0),
        ([condition("Suspended", "True", "SuspendedByUser")], {}, 0),
        ([PASSED, condition("Succeeded", "True", "AdapterPublished")], {"adapter": ADAPTER.wire()}, 0),
    ],
    ids=["failed", "stalled", "unschedulable", "queued", "retrying", "running", "suspended", "succeeded"],
)
def test_why_ends_with_1_when_a_job_has_failed_or_does_not_go_on_by_itself(
    cli: Cli, cluster: Objects, conditions: list[dict[str, Any]], status: dict[str, Any], code: int
) -> None:
    make_job(cluster, *conditions, **status)
    assert cli("why", "bot").code == code


@pytest.mark.parametrize(
    ("conditions", "stage", "words"),
    [
        (
            [condition("PreflightPassed", "False", "InputNotFound"), LOST],
            "train",
            "run 1 ended in the preflight and has no log of stage train; see --stage preflight",
        ),
        (
            [SKIPPED, LOST],
            "preflight",
            "run 1 had no preflight: spec.preflight.enabled is false; see --stage train",
        ),
    ],
    ids=["ended in the preflight", "no preflight"],
)
def test_a_stage_that_a_run_has_not_had_has_no_log(
    cli: Cli, cluster: Objects, conditions: list[dict[str, Any]], stage: str, words: str
) -> None:
    make_job(cluster, *conditions, completionTime=NOW)
    for follow in ([], ["-f"]):
        said = cli("logs", "bot", "--stage", stage, *follow)
        assert (said.code, said.out, said.err) == (1, "", f"kubectl-lora: {words}\n")


def test_watch_ends_with_the_run(cli: Cli, cluster: Objects) -> None:
    failure = {"reason": "BadData", "exitCode": 65, "message": "row 7 has no messages", "hint": "correct row 7"}
    make_job(cluster, condition("Failed", "True", "BadData"), failure=failure, phase="Failed", reason="BadData")
    said = cli("watch", "bot")
    assert (said.code, said.out) == (1, "bot  Failed (BadData)\n")
    assert said.err == "Run 1 has failed: row 7 has no messages (BadData)\nWhat to do: correct row 7\n"


def test_watch_of_a_success_says_where_the_adapter_is(cli: Cli, cluster: Objects) -> None:
    done = condition("Succeeded", "True", "AdapterPublished")
    make_job(cluster, done, adapter=ADAPTER.wire(), phase="Succeeded", resolved=RESOLVED.wire())
    said = cli("watch", "bot")
    assert said.code == 0
    assert said.out.endswith(f"adapter  {ADAPTER.uri}\ndigest   {DIGEST}\n")


@pytest.mark.parametrize("command", ["watch", "logs", "why", "verify", "reproduce"])
def test_a_name_that_is_not_there_is_one_line_with_a_hint(cli: Cli, command: str) -> None:
    said = cli(command, "nobody")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "there is no LoRA" in said.err
    assert "nobody" in said.err
    assert "-A" in said.err


def test_names_are_completed_from_the_cluster(cluster: Objects, capsys: pytest.CaptureFixture[str]) -> None:
    from lora_cli import main

    cluster.create(lorajob("bot"))
    place = ["--kubeconfig", str(cluster.server.kubeconfig), "-n", cluster.namespace]
    main.run(["__complete", *place, "watch", "b"])
    assert capsys.readouterr().out == "bot\n:4\n"


def test_a_server_that_is_not_there_and_a_context_that_is_not_there(cli: Cli, tmp_path: Path, server: Any) -> None:
    dead = yaml.safe_load(server.kubeconfig.read_text())
    dead["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "dead"
    path.write_text(yaml.safe_dump(dead))
    said = cli("list", kubeconfig=path)
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "the API server https://127.0.0.1:1 does not answer: " in said.err
    assert "refused" in said.err
    assert cli("list", "--context", "none").code == 2
    assert cli("list", kubeconfig=tmp_path / "none").code == 2


@pytest.fixture
def narrow(new_user: NewUser) -> Path:
    """Return the kubeconfig of a user who may read the LoRAJobs of the namespace, and nothing else."""
    return new_user("reader", {"apiGroups": ["lora-operator.io"], "resources": ["lorajobs"], "verbs": ["get", "list"]})


def test_a_user_who_may_read_one_kind_in_one_namespace(cli: Cli, cluster: Objects, narrow: Path) -> None:
    make_job(cluster, condition("Running", "True", "Training", "Pod x trains"), progress=PROGRESS.wire())
    assert cli("list", kubeconfig=narrow).code == 0
    said = cli("why", "bot", kubeconfig=narrow)
    assert said.code == 0
    assert f"you may not list pods in namespace {cluster.namespace}" in said.out
    assert "The job trains, step 60 of 118" in said.out
    everywhere = cli("list", "-A", kubeconfig=narrow)
    assert (everywhere.code, everywhere.out) == (1, "")
    assert "you may not list lorajobs in all namespaces" in everywhere.err
    assert cli("adapters", kubeconfig=narrow).code == 1
