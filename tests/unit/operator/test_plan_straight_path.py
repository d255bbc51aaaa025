"""What the operator does while nothing goes wrong: one Job after the other, one status write a change, then silence."""

import pytest

from lora_api.lorajob_status import Phase
from lora_api.messages import Progress
from lora_api.reasons import Reason
from lora_operator.domain.observed import Stage
from support.samples import ADAPTER, DIGEST, PREFLIGHT_DONE, RESOLVED, TRAIN_DONE
from support.world import (
    SETTINGS,
    START,
    World,
    accepted,
    adapter_of,
    ended,
    pod,
    preflight_passed,
    running,
    succeeded,
    training,
    writes,
)


def test_a_new_job_is_accepted_and_its_preflight_starts() -> None:
    world = World.of()
    made = world.step()

    assert [each["kind"] for each in made.create] == ["Job"]
    assert made.requeue_after == SETTINGS.missing_pod_interval, "a refused pod wakes nobody"
    status = world.job.status
    assert (status.run, status.observed_generation, status.start_time) == (1, 1, START)
    assert world.job.spec is not None
    assert status.spec_digest == world.job.spec.result_digest()
    assert (status.phase, status.reason) == (Phase.PREFLIGHT, Reason.PREFLIGHT_RUNNING)
    preflight = world.condition("PreflightPassed")
    assert preflight is not None
    assert (preflight.status, preflight.reason) == ("Unknown", "PreflightRunning")
    assert world.told == [], "its objects tell that it began"


@pytest.mark.parametrize("state", [accepted, preflight_passed, training, succeeded], ids=lambda each: each.__name__)
def test_a_second_pass_over_unchanged_objects_writes_nothing(state: object) -> None:
    world = state()  # type: ignore[operator]
    made = world.step()
    assert not writes(made)


def test_training_starts_only_after_the_preflight_passed() -> None:
    world = accepted().see_work(Stage.PREFLIGHT, running()).settle()
    assert "Job/support-bot-1-train" not in world.applied

    world.see_work(Stage.PREFLIGHT, ended(0, PREFLIGHT_DONE), complete=True).settle()
    assert "Job/support-bot-1-train" in world.applied
    assert world.job.status.resolved == RESOLVED
    assert world.job.status.phase == Phase.SCHEDULING


def test_a_preflight_whose_pod_is_gone_still_counts() -> None:
    world = accepted().see_work(Stage.PREFLIGHT, complete=True).settle()
    assert "Job/support-bot-1-train" in world.applied
    assert world.job.status.resolved is None


def test_a_preflight_can_be_switched_off() -> None:
    world = World.of(preflight={"enabled": False}).settle()
    assert list(world.applied) == ["Job/support-bot-1-train"]
    passed = world.condition("PreflightPassed")
    assert passed is not None
    assert (passed.status, passed.reason) == ("True", "PreflightSkipped")


def test_a_passed_preflight_is_not_repeated_when_its_job_is_removed() -> None:
    world = training().see(preflight=None)
    assert not writes(world.step())


def test_a_training_pod_is_followed() -> None:
    world = preflight_passed()
    world.see_work(Stage.TRAIN, pod(node="", unschedulable="0/3 nodes have nvidia.com/gpu")).settle()
    scheduled = world.condition("Scheduled")
    assert scheduled is not None
    assert (scheduled.status, scheduled.reason) == ("False", "Unschedulable")
    assert scheduled.message == "0/3 nodes have nvidia.com/gpu"
    assert (world.job.status.phase, world.job.status.reason) == (Phase.SCHEDULING, "Unschedulable")

    world.see_work(Stage.TRAIN, running()).see(progress=Progress(step=3, percent=2.5))
    made = world.step()
    assert made.requeue_after is None, "news of the pod ask for the next pass"
    assert world.job.status.progress == Progress(step=3, percent=2.5)
    assert world.job.status.phase == Phase.RUNNING
    assert "Training" in world.told


def test_the_last_known_progress_stays_while_the_pod_does_not_answer() -> None:
    world = training().see(progress=None)
    assert world.step().status is None


def test_success_names_the_adapter_and_makes_the_loraadapter() -> None:
    world = succeeded()
    status = world.job.status
    assert status.phase == Phase.SUCCEEDED
    assert status.reason == Reason.ADAPTER_PUBLISHED
    assert status.adapter == ADAPTER
    assert status.adapter_digest_short == "abababababab"
    assert status.completion_time is not None
    assert status.progress is not None
    assert (status.progress.percent, status.progress.step, status.progress.eta_time) == (100.0, 118, None)
    assert (world.condition("Running").reason) == "Finished"  # type: ignore[union-attr]
    assert "LoRAAdapter/support-bot" in world.applied
    assert world.told.count("AdapterPublished") == 1


def test_no_loraadapter_when_none_is_wanted() -> None:
    assert not [each for each in succeeded(adapter={"create": False}).applied if each.startswith("LoRAAdapter")]


def test_a_crash_before_the_loraadapter_heals() -> None:
    world = succeeded().see(adapter=None, train=None, preflight=None)
    assert [each["kind"] for each in world.step().apply] == ["LoRAAdapter"]


def test_the_jobs_own_loraadapter_moves_to_the_new_digest() -> None:
    world = training().see(adapter=adapter_of("support-bot"))
    world.see_work(Stage.TRAIN, ended(0, TRAIN_DONE), complete=True).settle()
    assert world.observed.adapter is not None
    assert world.observed.adapter.digest == DIGEST


@pytest.mark.parametrize("owner", ["another-job", ""], ids=["of another job", "written by hand"])
def test_a_loraadapter_of_somebody_else_is_not_touched(owner: str) -> None:
    world = training().see(adapter=adapter_of(owner))
    world.see_work(Stage.TRAIN, ended(0, TRAIN_DONE), complete=True).settle()
    assert world.observed.adapter == adapter_of(owner)
    assert world.job.status.phase == Phase.SUCCEEDED, "the adapter is published all the same"
    assert world.job.status.failure is None
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert (stalled.status, stalled.reason) == ("True", "NameConflict")
    assert world.told.count("NameConflict") == 1

    world.see(adapter=None).settle()
    assert "LoRAAdapter/support-bot" in world.applied, "it goes on when the name is free"


def test_a_finished_job_is_not_run_again_when_its_jobs_are_removed() -> None:
    world = succeeded().see(train=None, preflight=None)
    assert not writes(world.step())


def test_a_job_that_is_being_deleted_is_left_alone() -> None:
    from dataclasses import replace

    world = World.of()
    world.see(job=replace(world.job, deleting=True))
    assert world.step() == type(world.step())()


def test_every_condition_has_a_reason_and_speaks_of_the_generation() -> None:
    world = succeeded().edit(ttlSecondsAfterFinished=None).settle()
    for condition in world.job.status.conditions:
        assert condition.reason
        assert condition.message
        assert condition.observed_generation == 2
