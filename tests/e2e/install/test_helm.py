"""The chart in a real cluster: upgraded, rolled back, removed and taken over, while trainings go on.

Only one operator may serve a namespace, so these tests replace the one of the cluster, and bring it back in the end.
"""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from demo.kubectl import condition, get, kubectl, run
from demo.objects import restricted_namespace
from deploy.release import NAME, NAMESPACE
from e2e.install.release import CRDS, PREVIOUS, Release, ca_bundle, exists, install_with_kubectl
from support.lorajobs import LoRAJobs
from support.wait import wait_for

pytestmark = pytest.mark.timeout(1500)
"""The first test may build Helm."""
LONG = {"maxSteps": 40, "effectiveBatchSize": 16}
"""Some minutes: longer than two changes of the operator."""
SHORT = {"maxSteps": 1, "effectiveBatchSize": 1}
CLUSTER_WIDE = ("clusterrole", "clusterrolebinding", "mutatingwebhookconfiguration")
CHANGED = {"podAnnotations": {"example.com/revision": "next"}}
"""What makes another pod of the operator, and changes nothing else."""


def trains(jobs: LoRAJobs, name: str) -> dict[str, Any]:
    """Return the training pod once it has made a step."""
    wait_for("a step", lambda: jobs.get(name).get("status", {}).get("progress", {}).get("step"), seconds=300)
    (pod,) = jobs.children("pods", name, "train")
    return pod


def assert_undisturbed(jobs: LoRAJobs, name: str, pod: dict[str, Any]) -> None:
    """The training pod is the same and still at work, and its container has never been started again."""
    (now,) = jobs.children("pods", name, "train")
    assert now["status"]["phase"] == "Running", "the training is too short for this test"
    assert now["metadata"]["uid"] == pod["metadata"]["uid"]
    assert "deletionTimestamp" not in now["metadata"]
    assert [each["restartCount"] for each in now["status"]["containerStatuses"]] == [0]


def assert_straight_end(jobs: LoRAJobs, name: str) -> None:
    """The job ends well, in its first run, without another attempt."""
    status = jobs.wait_for(name, "Succeeded", seconds=600)["status"]
    assert status["run"] == 1
    assert (status["attempts"]["failures"], status["attempts"]["disruptions"]) == (0, 0)


def test_upgrade_and_rollback_leave_a_training_alone(s3: Any, jobs: LoRAJobs, release: Release, previous: Path) -> None:
    release.apply(previous)
    assert release.history()[-1]["chart"] == f"lora-operator-{PREVIOUS}"
    first = release.history()[-1]["revision"]
    name = jobs.apply(jobs.sample("through-upgrades", training=LONG))
    pod, old = trains(jobs, name), release.operator_pod()

    release.apply(values=CHANGED)
    new = release.operator_pod()
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert_undisturbed(jobs, name, pod)
    assert ca_bundle(), "Helm leaves what the operator has written"

    release.rollback(int(first))
    back = release.operator_pod()
    assert "example.com/revision" not in back["metadata"].get("annotations", {})
    assert release.history()[-1]["chart"] == f"lora-operator-{PREVIOUS}"
    assert_undisturbed(jobs, name, pod)
    assert_straight_end(jobs, name)


def test_an_operator_that_cannot_start_takes_nothing_away(s3: Any, jobs: LoRAJobs, release: Release) -> None:
    release.apply()
    working = release.operator_pod()
    wrong = {"image": release.values["image"] | {"repository": "no-such-image", "digest": "", "tag": "none"}}
    release.fail(seconds=20, values=wrong)
    name = jobs.apply(jobs.sample("served-meanwhile", training=SHORT))
    wait_for("the preflight Job", lambda: jobs.children("jobs", name, "preflight"), seconds=60)
    release.apply()
    assert release.operator_pod()["metadata"]["uid"] == working["metadata"]["uid"]
    assert_straight_end(jobs, name)


def test_what_is_uninstalled_leaves_crds_jobs_and_trainings(s3: Any, jobs: LoRAJobs, release: Release) -> None:
    release.apply()
    name = jobs.apply(jobs.sample("survivor", training=LONG))
    pod, job = trains(jobs, name), jobs.get(name)

    release.uninstall()
    assert not [kind for kind in (*CLUSTER_WIDE, "deployment", "serviceaccount") if exists(kind, "lora-operator")]
    for each in CRDS:
        assert condition(get(NAMESPACE, *each.split("/")), "Established")["status"] == "True"
    assert jobs.get(name)["metadata"]["uid"] == job["metadata"]["uid"]
    assert_undisturbed(jobs, name, pod)

    release.apply()
    assert_undisturbed(jobs, name, pod)
    assert_straight_end(jobs, name)


def test_an_operator_of_one_namespace_has_rights_there_alone(s3: Any, jobs: LoRAJobs, release: Release) -> None:
    release.uninstall()  # it would serve this namespace, too
    own = f"e2e-operator-{uuid.uuid4().hex[:8]}"
    kubectl("apply", "-f", "-", stdin=json.dumps(restricted_namespace(own)))
    settings: dict[str, Any] = {
        "namespaces": [jobs.namespace],
        "webhook": {"enabled": False},
        "crds": {"enabled": False},
        "rbac": {"aggregateClusterRoles": False},
    }
    alone = Release(release.helm, name="tuning", namespace=own, **settings)
    try:
        alone.apply()
        name = jobs.apply(jobs.sample("in-its-place", training=SHORT))
        assert_straight_end(jobs, name)
        account = f"--as=system:serviceaccount:{own}:tuning-lora-operator"
        assert run("auth", "can-i", "create", "jobs", "-n", jobs.namespace, account).stdout.strip() == "yes"
        for elsewhere in ("default", own, NAMESPACE):
            assert run("auth", "can-i", "create", "jobs", "-n", elsewhere, account).stdout.strip() == "no"
        assert run("auth", "can-i", "list", "lorajobs", "--all-namespaces", account).stdout.strip() == "no"
    finally:
        alone.uninstall()
        kubectl("delete", "namespace", own, "--wait=false")
        release.apply()


def test_helm_takes_over_what_kubectl_has_installed(release: Release) -> None:
    release.uninstall()
    install_with_kubectl()
    before, trusted = release.operator_pod(), ca_bundle()

    release.apply()
    after = release.operator_pod()
    assert after["metadata"]["uid"] == before["metadata"]["uid"], "nothing of the pod has changed"
    assert ca_bundle() == trusted
    deployment = get(NAMESPACE, "deployment", NAME) or {}
    assert deployment["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
