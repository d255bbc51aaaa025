"""`why` of a LoRAJob: what is seen, and the sentence that it comes to."""

from datetime import timedelta

import pytest

from lora_api.messages import TerminationMessage
from lora_cli.explain.job import decide, explain_job
from lora_cli.explain.snapshot import Document, Snapshot, Standing
from lora_cli.render.why import why_lines
from unit.cli.golden_text import assert_golden
from unit.cli.objects import (
    NOW,
    at,
    condition,
    ended,
    event,
    failed,
    job,
    pod,
    snapshot,
    succeeded,
    training,
    unseen,
    waiting,
    work,
)

DONE, RUNNING, WAITING, TROUBLE = Standing
STARTING = job(condition("PreflightPassed"), condition("Running", "False", "WaitingForPod", "Pod x starts"))
NO_NODE = pod(node="", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/2 nodes: 2 no gpu"}])
BAD_DATA = TerminationMessage(reason="BadData", message="row 7 has no messages", hint="correct row 7")
SECRET_LOST = 'secret "s3-keys" not found'
QUOTA = 'pods "bot" is forbidden: exceeded quota: gpus'
QUEUED = condition("Admitted", "False", "Queued", "couldn't assign flavors: insufficient quota for nvidia.com/gpu")
STALL = {"reason": "SecretNotFound", "message": 'Secret "s3-keys" does not exist', "hint": "create it"}
SCRATCH_FULL = 'Usage of EmptyDir volume "scratch" exceeds the limit "8Mi". '
COMPLETE = {"type": "Complete", "status": "True", "lastTransitionTime": at(10)}


def evicted(code: int, message: str) -> Document:
    """Return a pod that the kubelet has evicted."""
    found = ended(code)
    return found | {"status": found["status"] | {"reason": "Evicted", "message": message}}


@pytest.mark.parametrize(
    ("seen", "standing", "reason", "words"),
    [
        (
            snapshot(unseen(10)),
            TROUBLE,
            "OperatorSilent",
            "has not seen the object for 10m, so it does not seem to run",
        ),
        (snapshot(unseen(0.1)), WAITING, "Accepted", "has not looked at the object yet, which was made 6s ago"),
        (snapshot(job(meta={"generation": 2})), TROUBLE, "OperatorSilent", "has not seen the last change"),
        (
            snapshot(STARTING, jobs=[work(COMPLETE)]),
            TROUBLE,
            "OperatorSilent",
            "Job bot-1-train has ended, and the operator has not noticed",
        ),
        (snapshot(STARTING, NO_NODE), WAITING, "Unschedulable", "No node takes pod bot-1-train-x: 0/2 nodes: 2 no gpu"),
        (
            snapshot(STARTING, waiting("ImagePullBackOff", "registry: no such tag")),
            TROUBLE,
            "ImagePullFailed",
            "cannot pull its image: registry: no such tag",
        ),
        (
            snapshot(STARTING, waiting("CreateContainerConfigError", SECRET_LOST)),
            TROUBLE,
            "SecretNotFound",
            SECRET_LOST,
        ),
        (
            snapshot(job(condition("Stalled", reason="SecretNotFound"), failure=STALL)),
            TROUBLE,
            "SecretNotFound",
            'The job waits for you: Secret "s3-keys" does not exist',
        ),
        (snapshot(STARTING, ended(137, reason="OOMKilled")), WAITING, "OutOfMemory", "used more memory than its limit"),
        (snapshot(STARTING, ended(65, BAD_DATA)), TROUBLE, "BadData", "failed: row 7 has no messages"),
        (snapshot(STARTING, ended(69)), WAITING, "ServiceUnavailable", "it ended with code 69 and left no message"),
        (snapshot(STARTING, ended(75)), WAITING, "Interrupted", "was taken away"),
        (
            snapshot(STARTING, evicted(75, SCRATCH_FULL)),
            WAITING,
            "DiskFull",
            f"was evicted: {SCRATCH_FULL[:-2]}; it was",
        ),
        (snapshot(job(QUEUED)), WAITING, "Queued", "insufficient quota for nvidia.com/gpu"),
        (snapshot(job(spec={"suspend": True})), WAITING, "SuspendedByUser", "spec.suspend keeps the job without pods"),
        (
            snapshot(failed("InputNotFound", "spec.dataset.train.uri: no such bucket", "correct it", 66)),
            TROUBLE,
            "InputNotFound",
            "Run 1 has failed: spec.dataset.train.uri: no such bucket",
        ),
        (snapshot(failed("Diverged", "the loss is NaN at step 12", "lower it", 80)), TROUBLE, "Diverged", "is NaN"),
        (
            snapshot(failed("TrainingStalled", "no step for 1800 s", "read it", 82)),
            TROUBLE,
            "TrainingStalled",
            "1800 s",
        ),
        (
            snapshot(STARTING, jobs=[work()], events=[event("Job", "bot-1-train", "FailedCreate", QUOTA)]),
            TROUBLE,
            "PodRefused",
            f"The cluster refuses the pod: {QUOTA}",
        ),
        (
            snapshot(STARTING, pod(), events=[event("Pod", "bot-1-train-x", "FailedMount", "volume bases: not found")]),
            WAITING,
            "WaitingForPod",
            "does not start on node node-1: volume bases: not found",
        ),
        (snapshot(training()), RUNNING, "Training", "The job trains, step 60 of 118, and nothing holds it up"),
        (snapshot(training(progress=None)), RUNNING, "Training", "the operator hears nothing of its progress"),
        (snapshot(succeeded()), DONE, "AdapterPublished", "Run 1 has succeeded: the adapter is at s3://models/prefix"),
        (snapshot(STARTING), WAITING, "WaitingForPod", "Pod x starts"),
        (snapshot(job(meta={"deletionTimestamp": at(1)})), WAITING, "RemovingArtifacts", "is being deleted"),
        (snapshot(job()), WAITING, "Accepted", "nothing holds it up"),
    ],
)
def test_the_sentence(seen: Snapshot, standing: Standing, reason: str, words: str) -> None:
    verdict = decide(seen)
    assert (verdict.standing, verdict.reason) == (standing, reason)
    assert words in verdict.sentence
    assert "\n" not in verdict.sentence + verdict.hint
    assert verdict.hint or standing in (DONE, RUNNING)


TRAINED = training(progress=None)
PREFLIGHT_JOB = work(stage="preflight", backoffLimit=2) | {"status": {"failed": 1}}


def oom(failures: int, **spec: object) -> Document:
    """Return a LoRAJob one of whose pods has just run out of memory."""
    return job(
        condition("PreflightPassed"), condition("Running", "False", "Retrying"), spec=dict(spec),
        attempts={"failures": failures, "disruptions": 2},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "standing", "words"),
    [
        (
            snapshot(oom(3), ended(137, reason="OOMKilled")),
            WAITING,
            "attempt 3 of 4, and another pod follows by itself",
        ),
        (
            snapshot(oom(0), ended(137, reason="OOMKilled")),
            WAITING,
            "attempt 1 of 4, and another pod follows by itself",
        ),
        (
            snapshot(oom(2, failurePolicy={"maxFailures": 5}), ended(71)),
            WAITING,
            "attempt 2 of 6, and another pod follows by itself",
        ),
        (
            snapshot(oom(1, failurePolicy={"maxFailures": 0}), ended(137, reason="OOMKilled")),
            TROUBLE,
            "attempt 1 of 1, the last one",
        ),
        (
            snapshot(job(), ended(69, stage="preflight"), jobs=[PREFLIGHT_JOB]),
            WAITING,
            "attempt 1 of 3, and another pod follows by itself",
        ),
    ],
)
def test_an_attempt_that_failed_is_numbered_and_only_the_last_one_needs_somebody(
    seen: Snapshot, standing: Standing, words: str
) -> None:
    verdict = decide(seen)
    assert verdict.sentence.endswith(f"; it was {words}")
    assert verdict.standing == standing


@pytest.mark.parametrize(
    "seen",
    [
        snapshot(oom(1), ended(75)),
        snapshot(oom(1), ended(65, BAD_DATA)),
        snapshot(job(), ended(69, stage="preflight")),  # whose Job may not be read
    ],
    ids=["a disruption", "what is permanent", "an unknown number"],
)
def test_what_is_no_attempt_of_a_known_number_is_not_numbered(seen: Snapshot) -> None:
    assert "attempt" not in decide(seen).sentence


def test_the_operators_words_on_an_attempt_are_numbered_too() -> None:
    said = {"reason": "OutOfMemory", "message": "Pod x used more memory than its limit of 4Gi", "hint": "raise it"}
    document = oom(3)
    document["status"]["failure"] = said
    verdict = decide(snapshot(document, ended(137, reason="OOMKilled")))
    assert verdict.sentence == f"{said['message']}; it was attempt 3 of 4, and another pod follows by itself"
    assert verdict.hint == "raise it"


@pytest.mark.parametrize(
    ("pods", "standing", "words"),
    [
        (
            [ended(0, ago=5)],
            TROUBLE,
            "The training pod has ended with code 0, and the operator has not said so for 5m, so it does not seem",
        ),
        ([ended(0, ago=0.5)], WAITING, "The training pod has ended with code 0 30s ago"),
        (
            [ended(65, BAD_DATA, ago=5)],
            TROUBLE,
            "ended with code 65 (row 7 has no messages), and the operator has not said so for 5m",
        ),
        ([ended(137, reason="OOMKilled", ago=5)], TROUBLE, "code 137, and the operator has not said so for 5m"),
        ([ended(65, BAD_DATA, ago=0.5)], TROUBLE, "failed: row 7 has no messages"),
        ([pod({"running": {}}, phase="Running"), ended(0, ago=5)], RUNNING, "The pod trains"),
        ([pod({"running": {}}, phase="Running")], RUNNING, "The pod trains"),
        ([ended(0, ago=5, stage="preflight")], RUNNING, "The pod trains"),
    ],
    ids=[
        "done and not noticed",
        "done a moment ago",
        "failed for good and not noticed",
        "killed and not noticed",
        "failed a moment ago",
        "one of several nodes still runs",
        "it runs",
        "only the preflight is left",
    ],
)
def test_a_training_that_has_ended_does_not_train(pods: list[Document], standing: Standing, words: str) -> None:
    verdict = decide(snapshot(TRAINED, *pods))
    assert words in verdict.sentence
    assert verdict.standing == standing
    if "not said so" in words:
        assert verdict.reason == "OperatorSilent"
        assert "kubectl get pods -A -l app.kubernetes.io/name=lora-operator" in verdict.hint


@pytest.mark.parametrize(
    ("seen", "command"),
    [
        (
            snapshot(job(spec={"suspend": True})),
            'kubectl patch lorajob support-bot -n team-a --type=merge -p \'{"spec":{"suspend":false}}\'',
        ),
        (
            snapshot(job(meta={"deletionTimestamp": at(1)})),
            'kubectl patch lorajob support-bot -n team-a --type=merge -p \'{"spec":{"deletionPolicy":"Retain"}}\'',
        ),
        (snapshot(STARTING, ended(70)), "kubectl lora logs support-bot -n team-a"),
        (snapshot(job(QUEUED)), "kubectl describe localqueue -n team-a"),
    ],
    ids=["suspended", "being deleted", "failed without a word", "queued"],
)
def test_a_hint_that_is_a_command_can_be_copied(seen: Snapshot, command: str) -> None:
    assert command in decide(seen).hint


def test_what_ended_the_run_counts_more_than_how_its_pods_ended() -> None:
    document = failed("DeadlineExceeded", "The run has lasted longer than 60 s", "raise it")
    assert decide(snapshot(document, ended(75))).reason == "DeadlineExceeded"


def test_the_operators_own_words_on_a_pod_are_used_since_it_knows_the_spec() -> None:
    said = {"reason": "Unschedulable", "message": "Pod x waits: gpu is short", "hint": "lower spec.resources.gpus"}
    document = job(condition("Scheduled", "False", "Unschedulable"), failure=said)
    verdict = decide(snapshot(document, NO_NODE))
    assert (verdict.sentence, verdict.hint) == (said["message"], said["hint"])


def test_an_operator_that_has_just_not_noticed_is_given_a_minute() -> None:
    fresh = COMPLETE | {"lastTransitionTime": (NOW - timedelta(seconds=5)).isoformat()}
    assert decide(snapshot(STARTING, jobs=[work(fresh)])).reason == "WaitingForPod"


def test_the_preflight_that_passed_is_no_end_to_notice() -> None:
    assert decide(snapshot(training(), jobs=[work(COMPLETE, stage="preflight")])).reason != "Accepted"


def test_a_status_of_a_newer_operator_is_still_explained() -> None:
    document = training(phase="Dreaming", lossCurve=[{"step": "many"}])
    assert decide(snapshot(document)).reason == "Training"


def test_everything_it_was_read_from_stands_before_the_sentence() -> None:
    seen = snapshot(
        job(condition("PreflightPassed", reason="PreflightSucceeded"), condition("Running", "False", "Retrying")),
        ended(137, reason="OOMKilled"),
        jobs=[work(COMPLETE, stage="preflight"), work()],
        events=[event("Job", "bot-1-train", "SuccessfulCreate", "Created pod: bot-1-train-x")],
        log=["03:59:01 step loss=1.25"],
        unread=["you may not list events in namespace team-a"],
    )
    assert_golden("why-job", why_lines(explain_job(seen)))
