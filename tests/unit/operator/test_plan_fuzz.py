"""Random observations: the decision never fails, never deletes, never makes a second Job, and settles at once."""

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from lora_api.conditions import is_true
from lora_api.exit_codes import ExitCode
from lora_api.messages import Progress, TerminationMessage
from lora_api.names import ARTIFACTS_FINALIZER
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.events import build_event
from lora_operator.domain.observed import (
    AdapterView,
    Child,
    ContainerEnd,
    Observed,
    Ownership,
    PodView,
    WorkloadView,
    WorkView,
)
from lora_operator.domain.plan import Plan, plan, plan_refused
from lora_operator.domain.wishes import wants_new_run
from support.samples import PREFLIGHT_DONE, TRAIN_DONE, checkpoint, lorajob
from support.specs import parsed
from support.world import SETTINGS, START, World, accepted, preflight_passed, read_lorajob, succeeded, training

DIGESTS = (parsed("suspend", False).result_digest(), parsed("suspend", False).attempt_digest())
TEXT = st.text(max_size=40) | st.sampled_from(['secret "a" not found', "exceeded quota", "x" * 5000])
GATE_NOT_PASSED = TRAIN_DONE.model_copy(
    update={"reason": "GateNotPassed", "micro_batch_size": 1, "overfitting": "x" * 5000, "checkpoint": checkpoint(9)}
)
WORDS = [PREFLIGHT_DONE, TRAIN_DONE, GATE_NOT_PASSED, TerminationMessage(reason="BadData", message="m")]
MESSAGES = TEXT | st.sampled_from([each.encode().decode() for each in WORDS])
ENDS = st.builds(
    ContainerEnd,
    exit_code=st.sampled_from([*(code.value for code in ExitCode), 1, 137, 143, -1]),
    reason=st.sampled_from(["", "OOMKilled", "Error"]),
    message=MESSAGES,
)
PODS = st.builds(
    PodView,
    name=st.sampled_from(["a", "b"]),
    uid=st.sampled_from(["a", "b"]),
    created=st.sampled_from(["", "2026-01-01T00:00:00Z"]),
    phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
    node=st.sampled_from(["", "node"]),
    ip=st.sampled_from(["", "10.0.0.1"]),
    unschedulable=TEXT,
    waiting_reason=st.sampled_from(["", "CreateContainerConfigError", "ErrImagePull", "ContainerCreating", "Odd"]),
    waiting_message=TEXT,
    running=st.booleans(),
    end=st.none() | ENDS,
    lost_reason=st.sampled_from(["", "Evicted"]),
    lost_message=TEXT | st.just('Usage of EmptyDir volume "scratch" exceeds the limit "8Mi". '),
    disrupted=st.booleans(),
)
CHILDREN = st.builds(
    Child,
    kind=st.just("Job"),
    name=st.just("x"),
    ownership=st.sampled_from(list(Ownership)),
    uid=st.sampled_from(["u", "v"]),
    run_digest=st.sampled_from(["", DIGESTS[0]]),
    attempt_digest=st.sampled_from(["", DIGESTS[1]]),
)
WORKLOADS = st.builds(
    WorkloadView, reason=st.sampled_from(["", "Pending", "Preempted"]), message=TEXT, evicted=st.booleans()
)
WORK = st.builds(
    WorkView,
    child=CHILDREN,
    suspended=st.booleans(),
    queue=st.sampled_from(["", "gpus"]),
    complete=st.booleans(),
    failed=st.booleans(),
    failed_reason=st.sampled_from(["", "DeadlineExceeded", "PodFailurePolicy"]),
    failed_message=TEXT,
    failures=st.integers(0, 5),
    retries=st.integers(0, 5),
    pods=st.lists(PODS, max_size=3).map(tuple),
    failed_create=TEXT,
)
ADAPTERS = st.builds(
    AdapterView,
    name=st.just("support-bot"),
    job_label=st.sampled_from(["", "support-bot", "other"]),
    uri=TEXT,
    digest=TEXT,
)
SPECS = st.sampled_from(
    [
        {},
        {"lora": {"rank": 64}},
        {"lora": {"rank": "x"}},
        {"suspend": True},
        {"deletionPolicy": "Delete"},
        {"ttlSecondsAfterFinished": 0},
        {"failurePolicy": {"activeDeadlineSeconds": 1, "maxDisruptions": 0}},
        {"failurePolicy": {"maxFailures": 0}},
        {"scheduling": {"queueName": "gpus"}},
        {"resources": {"nodes": 2, "memory": "1Gi"}},
        {"preflight": {"enabled": False}},
        {"adapter": {"create": False}},
    ]
)
PAST = [World.of, accepted, preflight_passed, training, succeeded]
STATUSES = st.sampled_from([make().job.status for make in PAST])
OBSERVED = st.builds(
    Observed,
    job=st.builds(
        lambda spec, status, **about: replace(read_lorajob(lorajob(**spec), 2), status=status, **about),
        SPECS,
        STATUSES,
        deleting=st.booleans(),
        finalizers=st.sampled_from([(), (ARTIFACTS_FINALIZER,)]),
        restart=st.sampled_from(["", "again"]),
    ),
    service=st.none() | CHILDREN,
    preflight=st.none() | WORK,
    train=st.none() | WORK,
    cleanup=st.none() | WORK,
    workload=st.none() | WORKLOADS,
    adapter=st.none() | ADAPTERS,
    progress=st.none()
    | st.builds(
        Progress,
        step=st.integers(0, 100),
        eval_loss=st.none() | st.just(1.5),
        micro_batch_size=st.none() | st.integers(1, 4),
        checkpoint=st.none() | st.builds(checkpoint, st.integers(0, 100)),
        overfitting=st.none() | TEXT,
    ),
)


NOW = st.sampled_from([START, START + timedelta(hours=1)])


@settings(max_examples=400, deadline=None)
@given(OBSERVED, NOW)
def test_whatever_is_observed(observed: Observed, now: datetime) -> None:
    made = plan(observed, SETTINGS, now)

    _creates_only_what_is_missing(observed, made)
    _deletes_only_its_own_and_says_why(observed, made)
    for event in made.events:
        document = build_event(observed.job, 1, event, now)
        assert len(document["message"]) <= 1024
    if made.status is not None:
        assert all(len(each.message) <= 2048 for each in made.status.conditions)
        assert all(each.reason and each.observed_generation == 2 for each in made.status.conditions)
        assert len(made.status.wire()["history"]) <= 10
    if made.status is not None and not made.delete and made.requeue_after != 0:
        again = plan(replace(observed, job=replace(observed.job, status=made.status)), SETTINGS, now)
        assert again.status is None or again.create or again.apply, "the same observation gives the same status"


def _creates_only_what_is_missing(observed: Observed, made: Plan) -> None:
    jobs = [each["metadata"]["name"] for each in made.create if each["kind"] == "Job"]
    assert len(jobs) <= 1, "one stage at a time"
    for name in jobs:
        stage = name.rsplit("-", 1)[1]
        assert getattr(observed, stage) is None, "a Job that exists is never made again"
    assert not (jobs and observed.job.deleting and not jobs[0].endswith("cleanup")), "no training for a deleted job"


def _deletes_only_its_own_and_says_why(observed: Observed, made: Plan) -> None:
    works = [each for each in (observed.preflight, observed.train, observed.cleanup) if each is not None]
    for each in made.delete:
        assert each.why
        if each.kind == "LoRAAdapter":
            assert observed.job.deleting
            continue
        assert each.uid in {work.child.uid for work in works} | ({observed.service.uid} if observed.service else set())
    if made.delete and any(pod.running for work in works for pod in work.pods):
        assert _has_a_reason_to_stop(observed, made), "a running pod is never taken away without a reason"


def _has_a_reason_to_stop(observed: Observed, made: Plan) -> bool:
    job, status = observed.job, made.status or observed.job.status
    assert job.spec is not None
    return (
        job.deleting
        or job.spec.suspend
        or status.run != job.status.run
        or wants_new_run(job)
        or any(is_true(status.conditions, each) for each in ("Failed", "Succeeded"))
        or job.status.run is None
        or any(work.waits for work in (observed.preflight, observed.train) if work)
    )


@settings(max_examples=100, deadline=None)
@given(OBSERVED, st.sampled_from([400, 403, 413, 422]), TEXT)
def test_whatever_is_refused(observed: Observed, status: int, message: str) -> None:
    made = plan(observed, SETTINGS, START)
    refused = RefusedError(status=status, subject="Job x", message=message)
    concluded = plan_refused(observed, made, refused, START)
    assert concluded.create == concluded.apply == concluded.delete == ()
