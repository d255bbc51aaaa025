"""How a run is stopped, goes on, and starts anew: every wish of the user, and every way back."""

from dataclasses import replace

import pytest

from lora_api.lorajob_status import MAX_HISTORY, Phase
from lora_api.messages import TerminationMessage
from lora_operator.domain.observed import Child, Ownership, Stage, WorkView
from support.samples import ADAPTER, TRAIN_DONE, checkpoint
from support.world import World, accepted, ended, pod, preflight_passed, running, succeeded, training

TRAIN = "Job/support-bot-1-train"
PREFLIGHT = "Job/support-bot-1-preflight"
FAILED = TerminationMessage(reason="OutOfGPUMemory", message="too large")


def suspended() -> World:
    """Return a job whose training was suspended, and whose pods have ended."""
    return training().edit(suspend=True).settle().gone().settle()


class TestSuspend:
    def test_the_training_job_goes_and_the_status_says_until_when(self) -> None:
        world = training().edit(suspend=True).settle()
        assert world.deleted == [TRAIN], "once, however many passes"
        assert world.job.status.phase == Phase.SUSPENDED
        assert "pod-1" in world.condition("Suspended").message  # type: ignore[union-attr]
        assert world.condition("Suspended").reason == "Suspending"  # type: ignore[union-attr]

        world.gone().settle()
        assert world.condition("Suspended").reason == "SuspendedByUser"  # type: ignore[union-attr]
        assert world.told.count("SuspendedByUser") == 1
        assert world.observed.train is None

    def test_it_goes_on_under_the_same_run(self) -> None:
        world = suspended().edit().settle()
        assert world.observed.train is not None
        assert world.job.status.run == 1
        assert world.condition("Suspended").status == "False"  # type: ignore[union-attr]
        world.see_work(Stage.TRAIN, running(2)).settle()
        assert world.job.status.phase == Phase.RUNNING

    def test_a_suspension_is_no_disruption(self) -> None:
        world = suspended().edit().settle().see_work(Stage.TRAIN, running(2)).settle()
        assert world.job.status.attempts is not None
        assert (world.job.status.attempts.failures, world.job.status.attempts.disruptions) == (0, 0)

    def test_a_job_that_is_born_suspended_makes_nothing(self) -> None:
        world = World.of(suspend=True).settle()
        assert world.applied == {}
        assert world.job.status.phase == Phase.SUSPENDED
        assert "Job/support-bot-1-preflight" in world.edit().settle().applied

    def test_a_training_that_ended_first_has_ended(self) -> None:
        world = training().edit(suspend=True).see_work(Stage.TRAIN, ended(0, TRAIN_DONE), complete=True).settle()
        assert world.job.status.phase == Phase.SUCCEEDED
        assert world.deleted == []

    def test_the_saved_step_is_named(self) -> None:
        world = training().see(progress=None)
        world.see(job=replace(world.job, status=world.job.status.model_copy(update={"checkpoint": checkpoint(50)})))
        world.edit(suspend=True).settle()
        assert "step 50 is saved" in world.condition("Suspended").message  # type: ignore[union-attr]


class TestNewRun:
    def test_a_changed_spec_stops_the_run_and_then_begins_the_next(self) -> None:
        world = training().edit(lora={"rank": 64}).settle()
        assert world.deleted == [PREFLIGHT, TRAIN]
        assert world.job.status.run == 1, "not before the old pods have ended"
        assert world.condition("Running").reason == "Restarting"  # type: ignore[union-attr]

        world.gone().settle()
        status = world.job.status
        assert status.run == 2
        assert "Job/support-bot-2-preflight" in world.applied
        assert [(each.run, each.result) for each in status.history] == [(1, "Superseded")]
        assert status.progress is None
        assert world.told.count("NewRun") == 1

    def test_a_finished_run_is_remembered_with_its_digest(self) -> None:
        world = succeeded().edit(training={"maxSteps": 5}).settle().gone().settle()
        (record,) = world.job.status.history
        assert (record.run, record.result, record.digest) == (1, "Succeeded", ADAPTER.digest)
        assert record.finished_time is not None
        assert world.observed.adapter is not None, "what is served stays until there is better"

    def test_a_failed_run_is_remembered_with_its_reason(self) -> None:
        world = training().see_work(Stage.TRAIN, ended(80), failed=True).settle()
        world.edit(training={"learningRate": 1e-5}).settle().gone().settle()
        assert [(each.result, each.reason) for each in world.job.status.history] == [("Failed", "Diverged")]
        assert world.job.status.failure is None

    def test_the_history_is_bounded(self) -> None:
        world = accepted()
        for rank in range(1, MAX_HISTORY + 5):
            world.edit(lora={"rank": rank}).settle().gone().settle()
        assert len(world.job.status.history) == MAX_HISTORY
        assert world.job.status.history[0].run == world.job.status.run - 1  # type: ignore[operator]

    def test_a_restart_is_asked_for_by_an_annotation(self) -> None:
        world = succeeded()
        world.see(job=replace(world.job, restart="again")).settle().gone().settle()
        assert world.job.status.run == 2

    def test_a_new_run_waits_while_the_job_is_suspended(self) -> None:
        world = suspended().edit(suspend=True, lora={"rank": 64}).settle().gone().settle()
        assert (world.job.status.run, world.job.status.phase) == (2, Phase.SUSPENDED)
        assert "Job/support-bot-2-preflight" not in world.applied

    def test_the_same_spec_a_hundred_times_is_one_run_and_no_write(self) -> None:
        world = training()
        for _ in range(100):
            world.edit()
            made = world.step()
            assert made.create == made.apply == made.delete == ()
        assert world.job.status.run == 1


class TestCorrectedSpec:
    def test_a_job_that_waits_is_made_anew(self) -> None:
        world = preflight_passed().see_work(Stage.TRAIN, pod(node="", unschedulable="0/1 nodes")).settle()
        world.edit(resources={"gpus": 0}).settle()
        assert world.deleted == [TRAIN]
        world.gone().settle()
        template = world.applied[TRAIN]["spec"]["template"]["spec"]
        assert "nvidia.com/gpu" not in template["containers"][0]["resources"]["limits"]
        assert world.job.status.run == 1

    def test_a_pod_that_runs_is_left_alone(self) -> None:
        world = training().edit(resources={"memory": "64Gi"}).settle()
        assert world.deleted == []
        assert world.job.status.phase == Phase.RUNNING

    def test_the_next_attempt_is_made_from_the_new_fields(self) -> None:
        world = training().edit(resources={"memory": "64Gi"})
        world.see_work(Stage.TRAIN, ended(137, reason="OOMKilled"), failures=1, retries=3).settle().gone().settle()
        limits = world.applied[TRAIN]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert limits["memory"] == "64Gi"

    def test_a_failed_run_goes_on_when_its_pods_are_corrected(self) -> None:
        world = training().see_work(Stage.TRAIN, ended(71, FAILED), failed=True, failures=4).settle()
        assert world.job.status.phase == Phase.FAILED
        world.edit(resources={"memory": "64Gi"}).settle().gone().settle()

        assert world.job.status.run == 1, "the same run, so it goes on from its checkpoint"
        assert world.condition("Failed").status == "False"  # type: ignore[union-attr]
        assert world.job.status.failure is None
        assert world.applied[TRAIN]["spec"]["backoffLimit"] == 3, "with all its attempts"
        assert world.job.status.phase == Phase.SCHEDULING
        assert world.told.count("Resumed") == 1

    def test_a_succeeded_run_does_not_care(self) -> None:
        world = succeeded().edit(resources={"memory": "64Gi"}).settle()
        assert world.deleted == []
        assert world.job.status.phase == Phase.SUCCEEDED

    def test_a_job_of_another_spec_that_a_dead_pass_left_is_replaced(self) -> None:
        child = Child("Job", "support-bot-1-preflight", Ownership.OURS, uid="u", run_digest="of another spec")
        world = World.of().see(preflight=WorkView(child)).settle()
        assert world.deleted == [PREFLIGHT]
        assert PREFLIGHT in world.gone().settle().applied


def of_another_release(world: World, **digests: object) -> World:
    """Return the world with digests as a release wrote them that knew other fields."""
    status = world.job.status.model_copy(update={"spec_digest": "old", "attempt_digest": "old", **digests})
    world.see(job=replace(world.job, status=status))
    for stage in ("preflight", "train"):
        if work := getattr(world.observed, stage):
            child = replace(work.child, run_digest="old", attempt_digest="old")
            world.see(**{stage: replace(work, child=child)})
    return world


def failed() -> World:
    return training().see_work(Stage.TRAIN, ended(80), failed=True).settle()


class TestUpgrade:
    """Another release of the operator may know more fields, and so find other digests for the same object."""

    @pytest.mark.parametrize("state", [accepted, preflight_passed, training, succeeded, failed, suspended])
    @pytest.mark.parametrize("digests", [{}, {"spec_generation": None, "attempt_generation": None}])
    def test_it_starts_and_stops_nothing(self, state: object, digests: dict[str, object]) -> None:
        world = of_another_release(state(), **digests)  # type: ignore[operator]
        before = dict(world.applied), world.job.status.phase, list(world.deleted)
        world.settle()
        assert (dict(world.applied), world.job.status.phase, world.deleted) == before
        assert world.job.status.run == 1

    @pytest.mark.parametrize("digests", [{}, {"spec_generation": None, "attempt_generation": None}])
    def test_what_the_user_changes_afterwards_is_followed(self, digests: dict[str, object]) -> None:
        world = of_another_release(succeeded(), **digests).settle()
        assert world.edit(lora={"rank": 4}).settle().gone().settle().job.status.run == 2
        world = (
            of_another_release(failed(), **digests).settle().edit(resources={"memory": "64Gi"}).settle().gone().settle()
        )
        assert world.job.status.phase == Phase.SCHEDULING

    def test_a_field_that_a_later_release_adds_is_no_part_of_a_digest(self) -> None:
        spec = World.of(lora={"rank": 16}, training={"seed": 42}).job.spec
        bare = World.of().job.spec
        assert spec is not None
        assert bare is not None
        assert spec.result_digest() == bare.result_digest(), "defaults, written out"
