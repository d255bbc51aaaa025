"""The operator process and jobs that cannot go on, against a real API server."""

from lora_api.messages import TerminationMessage
from support.objects import Document, Objects, condition
from support.operator_process import Operator
from support.samples import PREFLIGHT_DONE, lorajob
from support.wait import wait_for

PREFLIGHT = "support-bot-1-preflight"


def test_a_missing_secret_is_named_and_heals(cluster: Objects, operator: Operator) -> None:
    cluster.create(lorajob(storage={"credentialsSecretRef": {"name": "s3"}}))
    pod = cluster.start_pod(PREFLIGHT, running=False)
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s3" not found'}}
    cluster.set_pod_state(pod["metadata"]["name"], "Pending", state)
    job = cluster.wait_for_condition("support-bot", "Stalled", "True", seconds=10)
    assert job["status"]["failure"]["reason"] == "SecretNotFound"

    cluster.set_pod_state(pod["metadata"]["name"], "Running", {"running": {}})
    job = cluster.wait_for_condition("support-bot", "Stalled", "False", seconds=10)
    assert "failure" not in job["status"], "server-side apply takes away what is no longer said"


def test_bad_data_ends_the_job_before_any_training(cluster: Objects, operator: Operator) -> None:
    cluster.create(lorajob())
    pod = cluster.start_pod(PREFLIGHT)
    words = TerminationMessage(reason="BadData", message="row 17 has no messages", hint="correct row 17")
    cluster.end_pod(pod["metadata"]["name"], 65, words)
    cluster.fail_job(PREFLIGHT, "PodFailurePolicy")
    job = cluster.wait_for_condition("support-bot", "Failed", "True")

    assert job["status"]["failure"] == {
        "reason": "BadData",
        "exitCode": 65,
        "message": "row 17 has no messages",
        "hint": job["status"]["failure"]["hint"],
    }
    assert job["status"]["failure"]["hint"].startswith("correct row 17")
    assert [each["metadata"]["name"] for each in cluster.list("Job")] == [PREFLIGHT]


def test_a_job_that_cannot_make_its_pod_says_why(cluster: Objects, operator: Operator) -> None:
    cluster.create(lorajob(scheduling={"serviceAccountName": "trainer"}))
    child = cluster.wait("Job", PREFLIGHT)
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "refused"},
            "involvedObject": {"kind": "Job", "namespace": cluster.namespace, "name": PREFLIGHT}
            | {"uid": child["metadata"]["uid"]},
            "reason": "FailedCreate",
            "message": 'Error creating: pods "x" is forbidden: serviceaccount "trainer" not found',
            "type": "Warning",
        }
    )
    job = cluster.wait_for_condition("support-bot", "Stalled", "True")
    assert job["status"]["failure"]["reason"] == "ServiceAccountNotFound"


def test_what_the_server_refuses_reaches_the_user_and_stops_nobody_else(cluster: Objects, operator: Operator) -> None:
    cluster.create(lorajob("bad", pod={"labels": {"a": "not a label!"}}))
    job = cluster.wait_for_condition("bad", "Stalled", "True")
    assert job["status"]["failure"]["reason"] == "InvalidSpec"
    assert "not a label!" in job["status"]["failure"]["message"]

    cluster.create(lorajob("good"))
    cluster.wait("Job", "good-1-preflight")


def test_an_adapter_of_somebody_else_is_left_alone(cluster: Objects, operator: Operator) -> None:
    source = {"uri": "s3://own/adapter", "digest": "sha256:" + "00" * 32}
    adapter: Document = {
        "apiVersion": "lora-operator.io/v1alpha1",
        "kind": "LoRAAdapter",
        "metadata": {"name": "support-bot"},
        "spec": {"baseModel": {"name": "own"}, "source": source},
    }
    cluster.create(adapter)
    cluster.create(lorajob())
    cluster.run_to_success("support-bot")
    job = cluster.wait_for_condition("support-bot", "Stalled", "True")

    assert job["status"]["phase"] == "Succeeded"
    assert condition(job, "Stalled")["reason"] == "NameConflict"
    assert cluster.wait("LoRAAdapter", "support-bot")["spec"] == adapter["spec"]


def test_a_new_job_of_the_same_name_waits_for_the_old_ones_children(cluster: Objects, operator: Operator) -> None:
    cluster.create(lorajob())
    old = cluster.wait("Job", PREFLIGHT)
    cluster.delete("LoRAJob", "support-bot")
    new = cluster.create(lorajob())
    wait_for(
        "the new job is seen",
        lambda: cluster.wait("LoRAJob", "support-bot").get("status", {}).get("run") == 1,
    )
    assert cluster.wait("Job", PREFLIGHT)["metadata"]["uid"] == old["metadata"]["uid"], "not taken over"

    cluster.delete("Job", PREFLIGHT)  # as the garbage collector will
    child = cluster.wait("Job", PREFLIGHT)
    assert child["metadata"]["ownerReferences"][0]["uid"] == new["metadata"]["uid"]


def test_progress_of_a_pod_that_does_not_answer_is_no_trouble(cluster: Objects, operator: Operator) -> None:
    cluster.create(lorajob())
    pod = cluster.start_pod(PREFLIGHT)
    cluster.end_pod(pod["metadata"]["name"], 0, PREFLIGHT_DONE)
    cluster.complete_job(PREFLIGHT)
    pod = cluster.start_pod("support-bot-1-train")
    cluster.set_status("Pod", pod["metadata"]["name"], {"podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}]})
    cluster.wait_for_condition("support-bot", "Running", "True")
    assert "Traceback" not in operator.log.read_text()


def test_jobs_full_of_odd_values_slow_nobody_down(cluster: Objects, operator: Operator) -> None:
    """Weird but valid: everything as long, as deep and as strange as the CRD takes it."""
    for number in range(20):
        odd = {
            "pod": {
                "annotations": {f"example.com/{'a' * 50}-{each}": "é" * 1000 for each in range(32)},
                "env": [{"name": f"V{each}", "value": "$(HOME) {{ x }} %s \n" * 40} for each in range(64)],
            },
            "dataset": {"train": {"uri": "s3://data/" + "x" * 900, "columns": {"messages": "m" * 200}}},
            "scheduling": {"affinity": {"nodeAffinity": {"unknown": {"deep": [[[{}]]]}}}, "nodeSelector": {"a": ""}},
        }
        cluster.create(lorajob(f"odd-{number}", **odd))
        cluster.create(lorajob(f"refused-{number}", pod={"labels": {"a": "not a label!"}}))
    cluster.create(lorajob("good"))
    cluster.wait("Job", "good-1-preflight", seconds=20)
    cluster.run_to_success("good")
    for number in range(20):
        cluster.wait_for_condition(f"refused-{number}", "Stalled", "True")
    assert operator.is_healthy()
    assert "Traceback" not in operator.log.read_text()
