"""Every failure that a user can meet: what was seen, and what `status.failure` says of it.

The words of Kubernetes were copied from a cluster of version 1.36, or, where such a cluster cannot be made to say them
(several nodes, a drain, older schedulers), from its source.
"""

import pytest

from lora_api.artifacts import ArtifactLayout
from lora_api.exit_codes import ExitCode
from lora_api.messages import TerminationMessage
from lora_api.reasons import REASON_OF_EXIT_CODE, Reason
from lora_operator.domain.failures import HINTS, explain_failed_job, explain_pod, will_retry
from lora_operator.domain.observed import ContainerEnd, PodView
from support.failures import ANEW, GOES_ON, assert_words, job, of_index
from support.world import ended, pod

LAYOUT = ArtifactLayout(output_uri="s3://models", namespace="team-a", name="support-bot", run=1)


def said(reason: str, message: str, hint: str = "") -> TerminationMessage:
    return TerminationMessage(reason=reason, message=message, hint=hint)


def lost(reason: str, message: str, exit_code: int | None = None, **state: object) -> PodView:
    end = ContainerEnd(exit_code, "Error") if exit_code is not None else None
    return pod(phase="Failed", lost_reason=reason, lost_message=message, end=end, **state)


SCRATCH_FULL = 'Usage of EmptyDir volume "scratch" exceeds the limit "8Mi". '
TMP_FULL = 'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". '
LIMIT_FULL = "Pod ephemeral local storage usage exceeds the total limit of containers 8Mi. "
NOT_FOUND_IN_PATH = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    'unable to start container process: exec: "lora-trainer": executable file not found in $PATH: unknown'
)
ENDS: dict[str, tuple[PodView, str, int | None, list[str], list[str]]] = {
    # What ended; reason, exit code; words of the message; words of the hint.
    "a spec that cannot work": (
        ended(64, said("InvalidRequest", "spec.lora.targetModules: no module is called q_prog")),
        "InvalidRequest",
        64,
        ["spec.lora.targetModules"],
        ["correct the field", "starts a new run by itself"],
    ),
    "bad data": (
        ended(65, said("BadData", "broken.jsonl, row 17: messages[1].content is missing", "correct row 17")),
        "BadData",
        65,
        ["row 17"],
        ["correct row 17; a changed spec starts a new run by itself; if only the data were changed", ANEW],
    ),
    "a missing model": (
        ended(66, said("InputNotFound", "spec.baseModel.uri: the hub has no model owner/none")),
        "InputNotFound",
        66,
        ["spec.baseModel.uri", "owner/none"],
        ["bucket and path must exist", "starts a new run", ANEW],
    ),
    "a service that does not answer": (
        ended(69, said("ServiceUnavailable", "no answer from http://s3:9000")),
        "ServiceUnavailable",
        69,
        ["http://s3:9000"],
        ["spec.storage.endpoint", "once it answers, raise spec.failurePolicy.maxFailures", GOES_ON],
    ),
    "a defect": (
        ended(70, said("InternalError", "ZeroDivisionError in plan.py")),
        "InternalError",
        70,
        ["plan.py"],
        ["log.jsonl", "raise spec.failurePolicy.maxFailures", GOES_ON],
    ),
    "out of GPU memory": (
        ended(71, said("OutOfGPUMemory", "one row of 4096 tokens needs more than 24 GiB")),
        "OutOfGPUMemory",
        71,
        ["4096"],
        ["spec.training.maxLength", "starts a new run", "larger GPU in spec.scheduling.nodeSelector", GOES_ON],
    ),
    "the trainer finds its disk full": (
        ended(74, said("DiskFull", "/scratch is full")),
        "DiskFull",
        74,
        ["/scratch"],
        ["raise spec.resources.scratch", GOES_ON],
    ),
    "the kubelet finds the scratch volume full": (
        lost("Evicted", SCRATCH_FULL, 137),
        "DiskFull",
        137,
        ['"scratch"', "8Mi"],
        ["raise spec.resources.scratch", GOES_ON],
    ),
    "the scratch volume is full, and the trainer saves a checkpoint in time": (
        pod(
            phase="Failed",
            lost_reason="Evicted",
            lost_message=SCRATCH_FULL,
            end=ContainerEnd(75, "Error", said("Interrupted", "Stopped after step 12").encode().decode()),
        ),
        "DiskFull",
        75,
        ['"scratch"', "8Mi"],
        ["raise spec.resources.scratch", GOES_ON],
    ),
    "the scratch volume is full, on a cluster that calls this a disruption": (
        lost("Evicted", SCRATCH_FULL, 137, disrupted=True, disruption_reason="TerminationByKubelet"),
        "DiskFull",
        137,
        ['"scratch"', "8Mi"],
        ["raise spec.resources.scratch", GOES_ON],
    ),
    "the kubelet finds another volume full": (
        lost("Evicted", TMP_FULL, 137),
        "DiskFull",
        137,
        ['"tmp"'],
        ["fixed size", "/scratch"],
    ),
    "more disk than a LimitRange allows": (
        lost("Evicted", LIMIT_FULL, 137),
        "DiskFull",
        137,
        ["limit of containers 8Mi"],
        ["LimitRange", "ephemeral-storage"],
    ),
    "no permission": (
        ended(77, said("NoPermission", "s3://data: access denied", "check the keys in Secret s3")),
        "NoPermission",
        77,
        ["access denied"],
        ["check the keys in Secret s3", "only keys or rights were changed", ANEW, GOES_ON],
    ),
    "NaN": (
        ended(80, said("Diverged", "the loss is NaN at step 3")),
        "Diverged",
        80,
        ["NaN"],
        ["lower spec.training.learningRate", "starts a new run by itself"],
    ),
    "a missed gate": (
        ended(81, said("GateNotPassed", "evalLoss 2.1 is not below 2.0")),
        "GateNotPassed",
        81,
        ["2.1"],
        ["spec.evaluation.gate", "starts a new run by itself"],
    ),
    "a stall": (
        ended(82, said("TrainingStalled", "no step within 1800 s")),
        "TrainingStalled",
        82,
        ["1800 s"],
        ["log.jsonl", "spec.failurePolicy.stallTimeoutSeconds", GOES_ON],
    ),
    "out of memory": (
        ended(137, reason="OOMKilled"),
        "OutOfMemory",
        137,
        ["more memory than its limit"],
        ["raise spec.resources.memory", GOES_ON],
    ),
    "killed, and nobody says why": (
        ended(137, reason="Error"),
        "OutOfMemory",
        137,
        ["137", "out of memory", "did not end in time"],
        ["spec.resources.memory"],
    ),
    "an image that does not have the command": (
        ended(128, NOT_FOUND_IN_PATH, reason="StartError"),
        "UnknownFailure",
        128,
        ['exec: "lora-trainer": executable file not found'],
        ["spec.pod.image", "it must run lora-trainer"],
    ),
    "a command that cannot be executed": (
        ended(126),
        "UnknownFailure",
        126,
        ["cannot be executed"],
        ["spec.pod.image", "it must run lora-trainer"],
    ),
    "a command that was not found": (ended(127), "UnknownFailure", 127, ["not found"], ["spec.pod.image"]),
    "a crash of a native library": (
        ended(139),
        "UnknownFailure",
        139,
        ["segmentation fault"],
        ["GPU driver", "spec.pod.image"],
    ),
    "stopped before it could listen": (
        ended(143),
        "UnknownFailure",
        143,
        ["without a checkpoint"],
        ["another attempt goes on from the checkpoint before"],
    ),
    "an image that is no trainer": (
        ended(1, "Traceback (most recent call last): password=hunter2"),
        "UnknownFailure",
        1,
        ["left no message", "exit code 1"],
        ["read the log of the pod", GOES_ON],
    ),
    "a trainer that calls a failure a success": (
        ended(80, said("Finished", "liar")),
        "Diverged",
        80,
        ["liar"],
        ["learningRate"],
    ),
    "a node that is gone": (
        lost("NodeLost", "Node node-1 which was running pod support-bot is unresponsive"),
        "PodLost",
        None,
        ["unresponsive"],
        ["spec.failurePolicy.maxFailures", GOES_ON],
    ),
    "a container that is gone": (
        ended(137, reason="ContainerStatusUnknown"),
        "PodLost",
        137,
        ["was lost"],
        [GOES_ON],
    ),
    "a device that cannot be given": (
        lost("UnexpectedAdmissionError", "Pod was rejected: Allocate failed due to no healthy devices present"),
        "PodLost",
        None,
        ["no healthy devices present"],
        [GOES_ON],
    ),
}


@pytest.mark.parametrize(("pod", "reason", "code", "message", "hint"), ENDS.values(), ids=ENDS)
def test_an_end_is_explained(pod: PodView, reason: str, code: int | None, message: list[str], hint: list[str]) -> None:
    failure = explain_failed_job(job(pod, failed=True), LAYOUT)
    assert (failure.reason, failure.exit_code) == (reason, code)
    assert_words(failure, message, hint)
    assert "hunter2" not in failure.model_dump_json(), "what a container wrote is not the trainer's, and not shown"


def test_every_failure_of_the_trainer_has_a_hint_of_ours() -> None:
    assert set(REASON_OF_EXIT_CODE.values()) <= set(HINTS)
    assert all(explain_pod(ended(code)).hint for code in ExitCode if code is not ExitCode.DONE)


def test_a_preflight_that_ran_out_of_memory_is_not_sent_to_a_field_that_it_does_not_read() -> None:
    failure = explain_failed_job(job(ended(137, reason="OOMKilled"), stage="preflight", failed=True), LAYOUT)
    assert_words(failure, ["more memory"], ["4Gi", "spec.preflight.enabled: false"])


POLICY = "Container trainer for pod team-a/x failed with exit code {code} matching FailJob rule at index 2"


@pytest.mark.parametrize(
    ("state", "reason", "code", "message", "hint"),
    [
        (
            {"failed_reason": "BackoffLimitExceeded", "failed_message": "Job has reached the specified backoff limit"},
            "PodLost",
            None,
            ["support-bot-1-train", "backoff limit"],
            ["runs/1/log.jsonl", GOES_ON],
        ),
        (
            {"failed_reason": "PodFailurePolicy", "failed_message": POLICY.format(code=77)},
            "NoPermission",
            77,
            ["exit code 77"],
            ["runs/1/log.jsonl", "credentialsSecretRef"],
        ),
        (
            {"failed_reason": "DeadlineExceeded", "failed_message": "Job was active longer than specified deadline"},
            "DeadlineExceeded",
            None,
            ["lasted longer than spec.failurePolicy.activeDeadlineSeconds"],
            ["spec.failurePolicy.activeDeadlineSeconds", GOES_ON],
        ),
    ],
    ids=["pods are gone", "pods are gone, the code is not", "deadline"],
)
def test_a_job_without_pods_is_explained(
    state: dict[str, str], reason: str, code: int | None, message: list[str], hint: list[str]
) -> None:
    failure = explain_failed_job(job(failed=True, **state), LAYOUT)
    assert (failure.reason, failure.exit_code) == (reason, code)
    assert_words(failure, message, hint)


PEER_LOST = said("InternalError", "a peer does not answer")


@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        ([of_index(0, ended(65)), of_index(1, ended(75, number=2))], "BadData"),
        ([of_index(0, ended(70, PEER_LOST, number=2)), of_index(1, ended(137, reason="OOMKilled"))], "OutOfMemory"),
        ([of_index(0, ended(71)), of_index(1, ended(70, PEER_LOST, number=2))], "OutOfGPUMemory"),
        ([ended(74, number=1), ended(70, number=2)], "InternalError"),
        ([ended(69, number=1), ended(75, number=2)], "ServiceUnavailable"),
        ([ended(75)], "Interrupted"),
    ],
    ids=[
        "the others are stopped",
        "the others lose a peer",
        "the last to end only lost a peer",
        "of one pod the last attempt counts",
        "a disruption does not hide a failure",
        "nothing but disruptions",
    ],
)
def test_of_several_pods_the_one_that_explains_the_end_is_shown(pods: list[PodView], reason: str) -> None:
    assert explain_failed_job(job(*pods, failed=True), LAYOUT).reason == reason


@pytest.mark.parametrize(
    ("pods", "state", "expected"),
    [
        ([ended(69)], {"retries": 3}, True),
        ([ended(69)], {"retries": 0}, False),
        ([ended(69)], {"retries": 2, "failures": 3}, False),
        ([ended(65)], {"retries": 3}, False),
        ([of_index(0, ended(70)), of_index(1, ended(77))], {"retries": 9}, False),
        ([ended(75)], {"retries": 0}, True),
    ],
    ids=[
        "tries left",
        "none left",
        "none left, pods are gone",
        "permanent",
        "one of several is permanent",
        "disrupted",
    ],
)
def test_a_retry_is_told_as_the_job_controller_will_decide(
    pods: list[PodView], state: dict[str, int], expected: bool
) -> None:
    assert will_retry(job(*pods, **state)) is expected


def test_a_deadline_is_no_interruption_though_it_stops_the_pod() -> None:
    stopped = ended(75, said("Interrupted", "Stopped after step 12, which is saved"))
    failure = explain_failed_job(job(stopped, failed=True, failed_reason="DeadlineExceeded"), LAYOUT)
    assert (failure.reason, failure.exit_code) == ("DeadlineExceeded", None)


def test_no_hint_sends_the_user_to_delete_the_job() -> None:
    shown = [*HINTS.values(), *(explain_pod(end).hint for end, *_ in ENDS.values())]
    assert not [hint for hint in shown if "delete" in hint]
    assert Reason.UNSCHEDULABLE not in HINTS, "it has a hint for each cause"
