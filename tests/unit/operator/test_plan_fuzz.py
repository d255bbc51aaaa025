"""Random observations: the decision never fails, never deletes, never makes a second Job, and settles at once."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from lora_api.exit_codes import ExitCode
from lora_api.messages import Progress, TerminationMessage
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.events import build_event
from lora_operator.domain.observed import (
    AdapterView,
    Child,
    ContainerEnd,
    Observed,
    Ownership,
    PodView,
    WorkView,
)
from lora_operator.domain.plan import plan, plan_refused
from support.samples import PREFLIGHT_DONE, TRAIN_DONE, checkpoint, lorajob
from support.world import SETTINGS, START, World, accepted, preflight_passed, read_lorajob, succeeded, training

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
    lost_message=TEXT,
    disrupted=st.booleans(),
)
CHILDREN = st.builds(Child, kind=st.just("Job"), name=st.just("x"), ownership=st.sampled_from(list(Ownership)))
WORK = st.builds(
    WorkView,
    child=CHILDREN,
    uid=st.just("u"),
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
        {"preflight": {"enabled": False}},
        {"adapter": {"create": False}},
    ]
)
PAST = [World.of, accepted, preflight_passed, training, succeeded]
STATUSES = st.sampled_from([make().job.status for make in PAST])
OBSERVED = st.builds(
    Observed,
    job=st.builds(lambda spec, status: replace(read_lorajob(lorajob(**spec), 2), status=status), SPECS, STATUSES),
    config_map=st.none() | CHILDREN,
    preflight=st.none() | WORK,
    train=st.none() | WORK,
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


@settings(max_examples=400, deadline=None)
@given(OBSERVED)
def test_whatever_is_observed(observed: Observed) -> None:
    made = plan(observed, SETTINGS, START)

    jobs = [each["metadata"]["name"] for each in made.apply if each["kind"] == "Job"]
    assert len(jobs) <= 1, "one stage at a time"
    for name in jobs:
        existing = observed.preflight if name.endswith("preflight") else observed.train
        assert existing is None, "a Job that exists is never applied again"
    for event in made.events:
        document = build_event(observed.job, 1, event, START)
        assert len(document["message"]) <= 1024
    if made.status is not None:
        assert all(len(each.message) <= 2048 for each in made.status.conditions)
        again = plan(replace(observed, job=replace(observed.job, status=made.status)), SETTINGS, START)
        assert again.status is None or again.apply, "the same observation gives the same status"


@settings(max_examples=100, deadline=None)
@given(OBSERVED, st.sampled_from([400, 403, 413, 422]), TEXT)
def test_whatever_is_refused(observed: Observed, status: int, message: str) -> None:
    made = plan(observed, SETTINGS, START)
    refused = RefusedError(status=status, subject="Job x", message=message)
    assert plan_refused(observed, made, refused, START).apply == ()
