"""What bounds a run, whom it waits for, and how it is tidied up."""

from dataclasses import replace
from datetime import timedelta

import pytest

from lora_api.lorajob_status import Phase
from lora_api.messages import TerminationMessage
from lora_operator.domain.errors import RefusedError
from lora_operator.domain.needs import needs_of
from lora_operator.domain.observed import Stage, WorkloadView
from lora_operator.domain.plan import plan, plan_refused
from support.world import SETTINGS, World, accepted, ended, preflight_passed, running, succeeded, training, writes

TRAIN = "Job/support-bot-1-train"
PREFLIGHT = "Job/support-bot-1-preflight"


class TestLimits:
    def test_the_deadline_counts_from_the_start_and_not_from_a_resume(self) -> None:
        world = training(failurePolicy={"activeDeadlineSeconds": 3600})
        assert world.applied[TRAIN]["spec"]["activeDeadlineSeconds"] <= 3600
        made = world.step()
        assert made.requeue_after == pytest.approx(3600, abs=30)

        limit = {"failurePolicy": {"activeDeadlineSeconds": 3600}}
        world.edit(suspend=True, **limit).settle().gone().settle()
        world.now += timedelta(minutes=50)
        world.edit(**limit).settle()
        assert world.applied[TRAIN]["spec"]["activeDeadlineSeconds"] < 700
        world.see_work(Stage.TRAIN, running(2)).settle()
        world.now += timedelta(minutes=11)
        world.settle()
        failure = world.job.status.failure
        assert failure is not None
        assert (failure.reason, world.job.status.phase) == ("DeadlineExceeded", Phase.FAILED)
        assert "3600" in failure.message
        assert world.deleted[-1] == TRAIN

    def test_a_raised_deadline_lets_it_go_on(self) -> None:
        world = training(failurePolicy={"activeDeadlineSeconds": 60})
        world.now += timedelta(minutes=2)
        world.settle().gone()
        assert world.job.status.phase == Phase.FAILED
        world.edit(failurePolicy={"activeDeadlineSeconds": 86400}).settle()
        assert world.job.status.phase == Phase.SCHEDULING

    def test_disruptions_have_a_budget_of_their_own(self) -> None:
        world = training(failurePolicy={"maxDisruptions": 2, "maxFailures": 0})
        for number in (2, 3, 4):
            assert world.job.status.phase == Phase.RUNNING
            world.see_work(Stage.TRAIN, running(number)).settle()
        failure = world.job.status.failure
        assert failure is not None
        assert (failure.reason, world.job.status.attempts.failures) == ("TooManyDisruptions", 0)  # type: ignore[union-attr]
        assert "maxDisruptions is 2" in failure.message

    def test_pods_that_vanish_between_two_looks_are_counted(self) -> None:
        world = training().see_work(Stage.TRAIN).settle()
        assert world.job.status.attempts.disruptions == 1  # type: ignore[union-attr]
        world.see_work(Stage.TRAIN, running(2)).settle()
        assert world.job.status.attempts.disruptions == 1, "the same one"  # type: ignore[union-attr]

    @pytest.mark.parametrize("code", [0, 75, 69])
    def test_an_end_counts_when_the_pod_has_ended_and_not_its_container(self, code: int) -> None:
        world = training().see_work(Stage.TRAIN, replace(ended(code), phase="Running")).settle()
        attempts = world.job.status.attempts
        assert attempts is not None
        assert (attempts.failures, attempts.disruptions) == (0, 0)

    def test_failures_under_an_earlier_job_of_the_run_still_count(self) -> None:
        world = training(failurePolicy={"maxFailures": 3})
        world.see_work(Stage.TRAIN, ended(69), running(2), failures=1, retries=3).settle()
        policy = {"failurePolicy": {"maxFailures": 3}}
        world.edit(suspend=True, **policy).settle().gone().settle().edit(**policy).settle()
        assert world.applied[TRAIN]["spec"]["backoffLimit"] == 2
        world.see_work(Stage.TRAIN, ended(69, number=3), failures=1, retries=2).settle()
        assert world.job.status.attempts.failures == 2  # type: ignore[union-attr]


class TestTimeToLive:
    def test_jobs_go_and_the_lorajob_stays(self) -> None:
        world = succeeded(ttlSecondsAfterFinished=600)
        assert world.step().requeue_after == pytest.approx(600, abs=20)
        world.now += timedelta(seconds=600)
        world.settle()
        assert sorted(world.deleted) == [PREFLIGHT, TRAIN]
        world.gone().settle()
        assert world.job.status.phase == Phase.SUCCEEDED
        assert not writes(world.step()), "and nothing is made again"

    def test_without_one_nothing_is_removed_or_even_looked_for(self) -> None:
        world = succeeded()
        assert not needs_of(world.job).train
        world.now += timedelta(days=400)
        assert world.settle().deleted == []


class TestQueue:
    QUEUE = {"scheduling": {"queueName": "gpus"}}

    def test_the_job_waits_until_kueue_lets_it_start(self) -> None:
        world = preflight_passed(**self.QUEUE)
        made = world.applied[TRAIN]
        assert made["spec"]["suspend"] is True
        assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"

        workload = WorkloadView("Pending", "couldn't assign flavors: insufficient quota for nvidia.com/gpu")
        world.see(workload=workload).settle()
        assert (world.job.status.phase, world.job.status.reason) == (Phase.QUEUED, "Queued")
        assert "insufficient quota" in world.condition("Admitted").message  # type: ignore[union-attr]

        world.see_work(Stage.TRAIN, running(), suspended=False).see(workload=None).settle()
        assert world.condition("Admitted").status == "True"  # type: ignore[union-attr]
        assert world.job.status.phase == Phase.RUNNING

    def test_an_eviction_is_a_disruption_and_is_shown_as_what_it_is(self) -> None:
        world = preflight_passed(**self.QUEUE).see_work(Stage.TRAIN, running(), suspended=False).settle()
        workload = WorkloadView("Preempted", "Preempted to accommodate a workload of higher priority", evicted=True)
        world.see_work(Stage.TRAIN, suspended=True).see(workload=workload).settle()
        assert world.condition("Admitted").reason == "Preempted"  # type: ignore[union-attr]
        assert world.job.status.phase == Phase.QUEUED
        assert world.job.status.attempts.disruptions == 1  # type: ignore[union-attr]
        assert world.job.status.attempts.failures == 0  # type: ignore[union-attr]
        assert world.told.count("Preempted") == 1

        world.see_work(Stage.TRAIN, running(2), suspended=False).see(workload=None).settle()
        assert world.job.status.phase == Phase.RUNNING

    def test_an_eviction_without_a_workload_is_seen_too(self) -> None:
        world = preflight_passed(**self.QUEUE).see_work(Stage.TRAIN, running(), suspended=False).settle()
        world.see_work(Stage.TRAIN, suspended=True).settle()
        assert world.condition("Admitted").reason == "Evicted"  # type: ignore[union-attr]

    def test_what_kueue_writes_is_never_written_over(self) -> None:
        world = preflight_passed(**self.QUEUE).see_work(Stage.TRAIN, suspended=False).settle()
        before = dict(world.applied)
        world.see_work(Stage.TRAIN, suspended=True).settle().see_work(Stage.TRAIN, suspended=False).settle()
        assert world.applied == before
        assert world.deleted == []

    def test_without_a_workload_the_user_learns_where_to_look(self) -> None:
        world = preflight_passed(**self.QUEUE).settle()
        assert "check that Kueue runs" in world.condition("Admitted").message  # type: ignore[union-attr]


class TestSeveralNodes:
    def test_the_service_comes_first_and_the_pods_know_each_other(self) -> None:
        world = World.of(resources={"nodes": 2}, preflight={"enabled": False})
        made = world.step()
        assert [each["kind"] for each in made.create] == ["Service", "Job"]
        service, job = made.create
        assert service["spec"]["clusterIP"] == "None"
        assert service["spec"]["publishNotReadyAddresses"] is True
        assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
        assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (2, 2)
        assert job["spec"]["completionMode"] == "Indexed"
        spec = job["spec"]["template"]["spec"]
        assert spec["subdomain"] == service["metadata"]["name"]
        address = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}["LORA_MASTER_ADDRESS"]
        assert address == "support-bot-1-train-0.support-bot-1"

    def test_the_first_pod_speaks_for_all(self) -> None:
        world = World.of(resources={"nodes": 2}, preflight={"enabled": False}).settle()
        pods = [replace(running(), index=0), replace(running(2), index=1)]
        world.see_work(Stage.TRAIN, *pods).settle()
        assert "pod-1" in world.condition("Running").message  # type: ignore[union-attr]
        assert world.job.status.attempts.pods == 1  # type: ignore[union-attr]


class TestRemoval:
    def deleted(self, world: World) -> World:
        return world.see(job=replace(world.job, deleting=True)).settle()

    def test_artifacts_are_kept_unless_it_is_said_otherwise(self) -> None:
        world = succeeded()
        assert not world.job.guarded
        world.see(job=replace(world.job, deleting=True))
        assert not writes(world.step())

    def test_the_finalizer_is_there_before_anything_else(self) -> None:
        world = World.of(deletionPolicy="Delete")
        made = world.step()
        assert made.guard is True
        assert made.create, "and in the same pass the Job"
        assert world.job.guarded
        assert world.step().guard is None

    def test_the_whole_way(self) -> None:
        world = self.deleted(training(deletionPolicy="Delete"))
        assert TRAIN in world.deleted
        assert "Job/support-bot-1-cleanup" not in world.applied, "not while a trainer still writes"

        world.gone().settle()
        cleanup = world.applied["Job/support-bot-1-cleanup"]
        assert "ownerReferences" not in cleanup["metadata"], "it would go with its owner"
        assert cleanup["spec"]["template"]["spec"]["containers"][0]["args"][0] == "cleanup"
        world.see_work(Stage.CLEANUP, ended(0), complete=True)
        made = world.step()
        assert made.guard is False
        assert not world.job.guarded
        assert [event.reason for event in made.events] == ["ArtifactsRemoved"]

    def test_the_loraadapter_goes_with_the_files_that_it_names(self) -> None:
        world = succeeded(deletionPolicy="Delete", output={"uri": "s3://models/prefix"})
        assert "LoRAAdapter/support-bot" in self.deleted(world).deleted

    def test_retain_is_the_way_out(self) -> None:
        world = training(deletionPolicy="Delete").edit(deletionPolicy="Retain")
        world.see(job=replace(world.job, deleting=True))
        assert world.step().guard is False

    def test_a_policy_that_is_changed_takes_the_finalizer_off_again(self) -> None:
        world = training(deletionPolicy="Delete").edit().settle()
        assert not world.job.guarded

    def test_a_failed_clean_up_says_why_and_how_to_get_out(self) -> None:
        world = self.deleted(training(deletionPolicy="Delete")).gone().settle()
        words = TerminationMessage(reason="NoPermission", message="s3://models: access denied", hint="check the keys")
        world.see_work(Stage.CLEANUP, ended(77, words), failed=True).settle()
        stalled = world.condition("Stalled")
        assert stalled is not None
        assert (stalled.status, stalled.reason) == ("True", "CleanupFailed")
        for word in ("access denied", "check the keys", "deletionPolicy", "finalizer"):
            assert word in stalled.message
        assert world.job.guarded

    def test_it_is_tried_again_with_corrected_access(self) -> None:
        world = self.deleted(training(deletionPolicy="Delete")).gone().settle()
        world.see_work(Stage.CLEANUP, ended(77), failed=True).settle()
        world.edit(deletionPolicy="Delete", storage={"region": "eu-west-1"})
        world.see(job=replace(world.job, deleting=True, finalizers=("lora-operator.io/artifacts",))).settle()
        assert world.deleted[-1] == "Job/support-bot-1-cleanup"

    def test_a_namespace_that_is_being_deleted_is_not_held_up(self) -> None:
        world = self.deleted(training(deletionPolicy="Delete")).gone()
        planned = plan(world.observed, SETTINGS, world.now)
        words = (
            'jobs.batch "x" is forbidden: unable to create new content in namespace a because it is being terminated'
        )
        refused = RefusedError(status=403, subject="Job x", message=words)
        assert plan_refused(world.observed, planned, refused, world.now).guard is False

    def test_a_job_that_was_never_accepted_has_nothing_to_remove(self) -> None:
        world = World.of(deletionPolicy="Delete")
        world.see(job=replace(world.job, deleting=True, finalizers=("lora-operator.io/artifacts",)))
        assert world.step().guard is False


@pytest.mark.parametrize(
    ("state", "read"),
    [
        (World.of, set()),
        (accepted, {"preflight"}),
        (preflight_passed, {"train"}),
        (training, {"train"}),
        (succeeded, {"adapter"}),
        (lambda: succeeded().edit(lora={"rank": 4}), {"preflight", "train", "adapter"}),
        (lambda: succeeded(ttlSecondsAfterFinished=9), {"preflight", "train", "adapter"}),
    ],
)
def test_only_what_a_decision_needs_is_read(state: object, read: set[str]) -> None:
    needs = needs_of(state().job)  # type: ignore[operator]
    assert {name for name in ("preflight", "train", "service", "adapter", "cleanup") if getattr(needs, name)} == read
