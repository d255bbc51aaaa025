"""What the operator says when something goes wrong: one reason, one message, one hint, and no crash loop."""

from dataclasses import replace

import pytest

from lora_api.exit_codes import ExitCode
from lora_api.lorajob_status import Phase
from lora_api.messages import TerminationMessage
from lora_api.reasons import REASON_OF_EXIT_CODE
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.observed import Child, ContainerEnd, Ownership, PodView, Stage, WorkView
from lora_operator.domain.plan import plan, plan_refused
from support.samples import TRAIN_DONE, checkpoint
from support.world import (
    SETTINGS,
    World,
    accepted,
    ended,
    pod,
    preflight_passed,
    running,
    training,
    waiting,
    writes,
)

ACCOUNT = 'Error creating: pods "x-" is forbidden: error looking up service account a/b: serviceaccount "b" not found'
QUOTA = 'Error creating: pods "x" is forbidden: exceeded quota: team, requested: pods=1, used: pods=9, limited: pods=9'
SECURITY = 'Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes'


def assert_stalled(world: World, reason: str, *words: str) -> None:
    """Check condition, failure, phase and events of a job that waits for its user."""
    stalled, failure = world.condition("Stalled"), world.job.status.failure
    assert stalled is not None
    assert (stalled.status, stalled.reason) == ("True", reason)
    assert failure is not None
    assert failure.reason == reason
    assert failure.hint, "the user must act, so the user must know how"
    for word in words:
        assert word in stalled.message
    assert (world.job.status.phase, world.job.status.reason) == (Phase.STALLED, reason)
    assert world.told.count(reason) == 1, "one event, however many passes"


def test_a_spec_that_does_not_parse_names_field_and_value() -> None:
    world = World.of(lora={"rank": "many"}).settle()
    assert_stalled(world, "InvalidSpec", "spec.lora.rank", "'many'")
    assert world.applied == {}


def test_a_corrected_spec_is_accepted() -> None:
    world = World.of(lora={"rank": "many"}).settle().edit().settle()
    assert "Job/support-bot-1-preflight" in world.applied
    assert world.job.status.failure is None
    assert world.condition("Stalled").status == "False"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("pod", "reason", "words"),
    [
        (waiting("CreateContainerConfigError", 'secret "s3" not found'), "SecretNotFound", ['Secret "s3"', "create"]),
        (
            waiting("CreateContainerConfigError", "couldn't find key AWS_ACCESS_KEY_ID in Secret team-a/s3"),
            "SecretNotFound",
            ['Secret "s3" has no key AWS_ACCESS_KEY_ID'],
        ),
        (waiting("ErrImagePull", "manifest unknown"), "ImagePullFailed", ["manifest unknown", "spec.pod.image"]),
        (waiting("ImagePullBackOff", 'Back-off pulling "x"'), "ImagePullFailed", ['"x"']),
        (waiting("InvalidImageName", "couldn't parse"), "ImagePullFailed", ["couldn't parse"]),
        (waiting("CreateContainerConfigError", "image will run as root"), "PodRefused", ["run as root"]),
    ],
    ids=lambda each: each if isinstance(each, str) else None,
)
@pytest.mark.parametrize("stage", [Stage.PREFLIGHT, Stage.TRAIN])
def test_a_pod_that_cannot_start(stage: Stage, pod: PodView, reason: str, words: list[str]) -> None:
    world = accepted() if stage is Stage.PREFLIGHT else preflight_passed()
    world.see_work(stage, pod).settle()
    assert_stalled(world, reason, *words)

    world.see_work(stage, running()).settle()
    assert world.condition("Stalled").status == "False", "it heals by itself"  # type: ignore[union-attr]
    assert world.job.status.failure is None


TOKEN = {"name": "hub", "key": "token"}


@pytest.mark.parametrize(
    ("storage", "field"),
    [
        (None, "spec.baseModel.tokenSecretRef"),
        ({"name": "s3"}, "spec.baseModel.tokenSecretRef"),
        ({"name": "hub"}, "spec.storage.credentialsSecretRef.name"),
    ],
    ids=["the token alone", "another for S3", "one for both"],
)
def test_a_missing_secret_is_told_by_what_it_is_for(storage: dict[str, str] | None, field: str) -> None:
    base = {"uri": "hf://owner/gated", "tokenSecretRef": TOKEN}
    world = accepted(baseModel=base, **({"storage": {"credentialsSecretRef": storage}} if storage else {}))
    world.see_work(Stage.PREFLIGHT, waiting("CreateContainerConfigError", 'secret "hub" not found')).settle()
    assert_stalled(world, "SecretNotFound", f"or correct {field}; the job goes on by itself")


@pytest.mark.parametrize(
    ("message", "reason", "word"),
    [
        (ACCOUNT, "ServiceAccountNotFound", '"b"'),
        (QUOTA, "QuotaExceeded", "9 of 9 used"),
        (SECURITY, "PodRefused", "hostPath"),
    ],
)
def test_a_job_without_pods(message: str, reason: str, word: str) -> None:
    world = accepted().see_work(Stage.PREFLIGHT, failed_create=message).settle()
    assert_stalled(world, reason, word)
    assert world.step().requeue_after == SETTINGS.missing_pod_interval


@pytest.mark.parametrize("code", [code for code in ExitCode if code is not ExitCode.DONE], ids=lambda code: code.name)
def test_every_exit_code_has_its_reason(code: ExitCode) -> None:
    world = accepted().see_work(Stage.PREFLIGHT, ended(code), failed=True, failed_reason="PodFailurePolicy").settle()
    failure = world.job.status.failure
    assert failure is not None
    assert failure.reason == REASON_OF_EXIT_CODE[code]
    assert failure.exit_code == code


def test_a_failed_preflight_ends_the_job_in_the_trainers_words() -> None:
    words = TerminationMessage(reason="BadData", message="row 17 has no messages", hint="correct row 17")
    world = accepted().see_work(Stage.PREFLIGHT, ended(65, words), failed=True).settle()
    status = world.job.status
    assert (status.phase, status.reason) == (Phase.FAILED, "BadData")
    assert status.failure is not None
    assert status.failure.message == "row 17 has no messages"
    assert status.failure.hint.startswith("correct row 17")
    assert world.condition("PreflightPassed").reason == "BadData"  # type: ignore[union-attr]
    assert status.completion_time is not None
    assert "Job/support-bot-1-train" not in world.applied
    assert world.told == ["BadData"]


@pytest.mark.parametrize(
    ("pods", "changes", "reason", "word"),
    [
        ([ended(137, reason="OOMKilled")], {}, "OutOfMemory", "memory"),
        ([ended(137)], {}, "OutOfMemory", "memory"),
        ([ended(1, "Traceback (most recent call last)")], {}, "UnknownFailure", "exit code 1"),
        ([ended(80, '{"reason": "Finished", "message": "liar"}')], {}, "Diverged", "liar"),
        ([ended(70, number=1), ended(80, number=2)], {}, "Diverged", "80"),
        ([], {"failed_message": "too many"}, "PodLost", "too many"),
        ([], {"failed_reason": "DeadlineExceeded"}, "DeadlineExceeded", ""),
        (
            [
                pod(
                    phase="Failed",
                    lost_reason="Evicted",
                    lost_message='Usage of EmptyDir volume "scratch" exceeds 64Gi',
                )
            ],
            {},
            "DiskFull",
            "scratch",
        ),
        ([pod(phase="Failed", lost_reason="NodeLost")], {}, "PodLost", "NodeLost"),
    ],
)
def test_a_failed_training(pods: list[PodView], changes: dict[str, str], reason: str, word: str) -> None:
    world = training().see_work(Stage.TRAIN, *pods, failed=True, **changes).settle()
    status = world.job.status
    assert (status.phase, status.reason) == (Phase.FAILED, reason)
    assert status.failure is not None
    assert word in status.failure.message
    assert world.condition("Running").reason == "Finished"  # type: ignore[union-attr]


def evicted(number: int) -> PodView:
    """Return a pod that outgrew its scratch volume, and saved a checkpoint in the second that it was left."""
    words = TerminationMessage(reason="Interrupted", message="Stopped after step 12", checkpoint=checkpoint(12))
    message = 'Usage of EmptyDir volume "scratch" exceeds the limit "8Mi". '
    return replace(ended(75, words, number=number), lost_reason="Evicted", lost_message=message)


def test_a_pod_that_outgrew_its_scratch_is_a_failure_although_the_job_does_not_count_it() -> None:
    """Its exit code is that of an interruption, which Jobs ignore: so it is the operator that ends the run in time."""
    world = training(failurePolicy={"maxFailures": 1})
    world.see_work(Stage.TRAIN, evicted(1), failures=0, retries=1).settle()
    assert world.condition("Running").reason == "Retrying"  # type: ignore[union-attr]
    assert 'EmptyDir volume "scratch"' in world.condition("Running").message  # type: ignore[union-attr]
    attempts = world.job.status.attempts
    assert attempts is not None
    assert (attempts.failures, attempts.disruptions) == (1, 0)

    world.see_work(Stage.TRAIN, evicted(1), evicted(2), running(3), failures=0, retries=1).settle()
    failure = world.job.status.failure
    assert failure is not None
    assert (world.job.status.phase, failure.reason, failure.exit_code) == (Phase.FAILED, "DiskFull", 75)
    assert failure.hint.startswith("raise spec.resources.scratch; then the run goes on by itself")
    assert world.job.status.attempts.disruptions == 0  # type: ignore[union-attr]
    assert world.deleted[-1] == "Job/support-bot-1-train"

    policy = {"failurePolicy": {"maxFailures": 1}}
    world.gone().edit(resources={"scratch": "64Gi"}, **policy).settle().gone().settle()
    assert (world.job.status.run, world.job.status.phase) == (1, Phase.SCHEDULING)
    assert world.job.status.checkpoint is not None
    assert world.job.status.checkpoint.step == 12
    world.see_work(Stage.TRAIN, running(4)).settle()
    assert world.job.status.phase == Phase.RUNNING


def test_of_several_pods_each_may_outgrow_its_scratch() -> None:
    """The first pod only loses its peer then, which alone would be a disruption."""
    world = training(failurePolicy={"maxFailures": 0}, resources={"nodes": 2})
    alone = ended(75, TerminationMessage(reason="Interrupted", message="another pod of this run has gone"))
    world.see_work(Stage.TRAIN, alone, replace(evicted(2), index=1), failures=0, retries=0).settle()
    status = world.job.status
    assert status.attempts is not None
    assert (status.attempts.failures, status.attempts.disruptions) == (1, 0)
    assert (status.phase, status.reason) == (Phase.FAILED, "DiskFull")


def test_a_job_that_ends_by_itself_is_left_to_its_controller() -> None:
    """A killed pod it counts itself, and then says so: nothing is deleted under it."""
    killed = [replace(evicted(number), end=ContainerEnd(137, "Error")) for number in (1, 2)]
    world = training(failurePolicy={"maxFailures": 1})
    world.see_work(Stage.TRAIN, *killed, failures=2, retries=1).settle()
    assert world.deleted == []
    world.see_work(Stage.TRAIN, *killed, failures=2, retries=1, failed=True).settle()
    assert world.job.status.reason == "DiskFull"


def test_a_finished_training_without_its_last_words_is_lost() -> None:
    world = training().see_work(Stage.TRAIN, complete=True).settle()
    assert world.job.status.reason == "PodLost"
    assert world.job.status.failure is not None
    assert "s3://models/prefix/team-a/support-bot/adapters" in world.job.status.failure.hint


def test_a_failed_attempt_is_retried_by_the_job_and_counted() -> None:
    world = training().see_work(Stage.TRAIN, ended(69), failures=1, retries=3).settle()
    assert world.job.status.attempts is not None
    assert world.job.status.attempts.failures == 1
    assert world.condition("Running").reason == "Retrying"  # type: ignore[union-attr]
    assert world.applied.keys() == training().applied.keys()

    world.see_work(Stage.TRAIN, ended(69), running(2), failures=1).settle()
    assert world.job.status.phase == Phase.RUNNING


@pytest.mark.parametrize(("code", "retries"), [(65, 3), (69, 0)], ids=["permanent", "the last try"])
def test_no_retry_is_promised_while_the_job_is_about_to_fail(code: int, retries: int) -> None:
    world = training().see_work(Stage.TRAIN, ended(code), retries=retries).settle()
    assert "Retrying" not in world.told


def test_an_unschedulable_preflight_says_so_until_it_has_a_node() -> None:
    world = accepted().see_work(Stage.PREFLIGHT, pod(node="", unschedulable="0/3 nodes fit")).settle()
    assert world.condition("Scheduled").reason == "Unschedulable"  # type: ignore[union-attr]
    assert "0/3 nodes fit" in world.condition("PreflightPassed").message  # type: ignore[union-attr]
    world.see_work(Stage.PREFLIGHT, running()).settle()
    assert world.condition("Scheduled").status == "True"  # type: ignore[union-attr]


def test_disruptions_are_no_failures() -> None:
    world = training()
    pods = [ended(75, number=1), pod(2, phase="Failed", disrupted=True, lost_reason="Preempted"), running(3)]
    world.see_work(Stage.TRAIN, *pods).settle()
    assert world.job.status.attempts is not None
    assert (world.job.status.attempts.failures, world.job.status.attempts.disruptions) == (0, 2)

    world.see_work(Stage.TRAIN, running(3)).settle()
    assert world.job.status.attempts.disruptions == 2, "a count never falls"


def test_a_failed_job_stays_failed() -> None:
    world = training().see_work(Stage.TRAIN, ended(80), failed=True).settle()
    world.see(train=None, preflight=None)
    made = world.step()
    assert not writes(made)
    assert made.requeue_after is None


@pytest.mark.parametrize("ownership", [Ownership.LEFTOVER, Ownership.FOREIGN])
def test_an_object_at_our_name_that_is_not_ours(ownership: Ownership) -> None:
    world = World.of().see(preflight=WorkView(Child("Job", "support-bot-1-preflight", ownership)))
    made = world.step()
    assert made.create == made.delete == ()
    if ownership is Ownership.LEFTOVER:
        assert made.requeue_after == SETTINGS.leftover_interval
        assert world.condition("Stalled") is None
    else:
        assert_stalled(world.settle(), "NameConflict", "Job", "support-bot-1-preflight")


def test_the_servers_refusal_reaches_the_user_once() -> None:
    world = World.of(pod={"labels": {"a b": "c"}})
    refused = RefusedError(status=422, subject="Job support-bot-1-preflight", message="labels: invalid value 'a b'")
    for expected in (True, False):
        planned = plan(world.observed, SETTINGS, world.now)
        concluded = plan_refused(world.observed, planned, refused, world.now)
        assert concluded.create == concluded.apply == ()
        assert (concluded.status is not None) is expected, "the same refusal again writes nothing"
        if concluded.status:
            world.see(job=replace(world.job, status=concluded.status))
    assert world.condition("Stalled").reason == "InvalidSpec"  # type: ignore[union-attr]
    assert "invalid value 'a b'" in world.condition("Stalled").message  # type: ignore[union-attr]


def test_a_refused_loraadapter_does_not_undo_the_success() -> None:
    world = training().see_work(Stage.TRAIN, ended(0, TRAIN_DONE), complete=True)
    planned = plan(world.observed, SETTINGS, world.now)
    refused = RefusedError(status=403, subject="LoRAAdapter support-bot", message="exceeded quota: count/loraadapters")
    concluded = plan_refused(world.observed, planned, refused, world.now)
    assert concluded.status is not None
    assert concluded.status.phase == Phase.SUCCEEDED
    assert {event.reason for event in concluded.events} == {"AdapterPublished", "QuotaExceeded"}
