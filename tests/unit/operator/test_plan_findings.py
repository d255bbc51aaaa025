"""What a training pod finds out reaches the status once, is told once, and outlives the pod."""

from typing import Any

import pytest

from lora_api.lorajob_status import Phase
from lora_api.loss_curve import CurvePoint
from lora_api.messages import Progress, TerminationMessage
from lora_operator.domain.observed import PodView, Stage
from support.samples import ADAPTER, PREFLIGHT_DONE, PROGRESS, RESOLVED, TRAIN_DONE, checkpoint
from support.world import World, accepted, adapter_of, ended, pod, preflight_passed, running, training

RISING = "the evaluation loss rose from 1.2 after step 20 to 1.6 after step 60"


def hear(world: World, **changes: Any) -> World:
    """Let the running pod say something."""
    return world.see(progress=PROGRESS.model_copy(update=changes)).settle()


def overfitting(world: World) -> tuple[str, str, str] | None:
    """Return status, reason and message of the condition."""
    found = world.condition("Overfitting")
    return (found.status, found.reason, found.message) if found else None


def interrupted(number: int = 1, **words: Any) -> PodView:
    """Return a pod that a signal stopped."""
    message = TerminationMessage(reason="Interrupted", message="stopped by SIGTERM", **words)
    return ended(75, message, number=number)


# Overfitting


def test_without_an_evaluation_nothing_is_said_of_overfitting() -> None:
    assert overfitting(hear(training(), eval_loss=None)) is None


def test_an_alarm_is_a_condition_and_one_event_and_does_not_stop_the_run() -> None:
    world = hear(training())
    assert overfitting(world) is not None
    assert overfitting(world)[:2] == ("False", "NoOverfitting")  # type: ignore[index]
    assert "NoOverfitting" not in world.told

    for step in (60, 61, 62):
        hear(world, step=step, overfitting=RISING)
    assert overfitting(world) == ("True", "EvaluationLossRising", RISING)
    assert world.told.count("EvaluationLossRising") == 1
    assert world.job.status.phase == Phase.RUNNING

    hear(world, eval_loss=1.1)
    assert overfitting(world)[:2] == ("False", "NoOverfitting")  # type: ignore[index]


def test_an_alarm_outlives_the_pod_the_next_attempt_and_the_run() -> None:
    world = hear(training(), overfitting=RISING)
    world.see(progress=None).see_work(Stage.TRAIN, interrupted()).settle()
    world.see_work(Stage.TRAIN, interrupted(), running(2)).settle()
    hear(world, eval_loss=None, checkpoint=None)
    world.see(progress=None).see_work(Stage.TRAIN, ended(0, TRAIN_DONE, number=2), complete=True).settle()
    assert world.job.status.phase == Phase.SUCCEEDED
    assert overfitting(world) == ("True", "EvaluationLossRising", RISING)
    assert world.told.count("EvaluationLossRising") == 1


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, ("False", "NoOverfitting")),
        ("", ("False", "NoOverfitting")),
        (RISING, ("True", "EvaluationLossRising")),
    ],
    ids=["not known", "no alarm", "alarm"],
)
def test_the_last_words_decide_when_they_know(said: str | None, expected: tuple[str, str]) -> None:
    words = TRAIN_DONE.model_copy(update={"overfitting": said})
    world = hear(training()).see_work(Stage.TRAIN, ended(0, words), complete=True).settle()
    assert overfitting(world)[:2] == expected  # type: ignore[index]


# Loss curve

WHOLE = [CurvePoint(step=step, loss=3.0 - step / 100, eval_loss=2.0 if step == 118 else None) for step in (1, 40, 118)]
WITH_CURVE = TRAIN_DONE.model_copy(update={"loss_curve": WHOLE})


def test_a_job_whose_pod_was_never_heard_gets_the_whole_curve() -> None:
    world = preflight_passed().see_work(Stage.TRAIN, ended(0, WITH_CURVE), complete=True).settle()
    assert world.job.status.phase == Phase.SUCCEEDED
    assert world.job.status.loss_curve == WHOLE
    assert world.step().status is None, "the same words again write nothing"


def test_the_curve_of_the_last_words_replaces_what_was_heard() -> None:
    world = hear(training())
    assert [each.step for each in world.job.status.loss_curve] == [10, 60]
    world.see(progress=None).see_work(Stage.TRAIN, ended(0, WITH_CURVE), complete=True).settle()
    assert world.job.status.loss_curve == WHOLE


def test_last_words_of_an_older_trainer_leave_what_was_heard() -> None:
    world = hear(training())
    world.see(progress=None).see_work(Stage.TRAIN, ended(0, TRAIN_DONE), complete=True).settle()
    assert [each.step for each in world.job.status.loss_curve] == [10, 60]


def test_a_failed_run_shows_how_its_loss_went() -> None:
    words = TerminationMessage(reason="Diverged", message="the loss is NaN", step=118, loss_curve=WHOLE)
    world = preflight_passed().see_work(Stage.TRAIN, ended(80, words), failed=True).settle()
    assert (world.job.status.phase, world.job.status.loss_curve) == (Phase.FAILED, WHOLE)


def test_the_next_attempt_goes_on_with_the_curve_that_the_last_one_left() -> None:
    world = preflight_passed().see_work(Stage.TRAIN, interrupted(loss_curve=WHOLE[:2])).settle()
    world.see_work(Stage.TRAIN, interrupted(loss_curve=WHOLE[:2]), running(2))
    hear(world, step=41, resumed_from_step=40)
    assert [each.step for each in world.job.status.loss_curve] == [1, 40, 41]


def test_an_attempt_that_is_gone_is_not_followed_by_the_words_of_the_one_before() -> None:
    """A node that is lost takes its pod along; what the pod of an earlier attempt left was heard long ago."""
    first = interrupted(loss_curve=WHOLE[:2], checkpoint=checkpoint(40), overfitting="")
    world = preflight_passed().see_work(Stage.TRAIN, first).settle()
    world.see_work(Stage.TRAIN, first, running(2)).settle()
    hear(world, step=118, resumed_from_step=40, checkpoint=checkpoint(100), overfitting=RISING)
    world.see(progress=None).see_work(Stage.TRAIN, first).settle()
    world.see_work(Stage.TRAIN, first, pod(3)).settle()
    assert [each.step for each in world.job.status.loss_curve] == [1, 40, 118]
    assert world.job.status.checkpoint == checkpoint(100)
    assert overfitting(world) == ("True", "EvaluationLossRising", RISING)


def test_an_attempt_that_ended_unseen_is_heard_beside_the_one_that_follows() -> None:
    world = training()
    world.see(progress=None).see_work(Stage.TRAIN, interrupted(loss_curve=WHOLE), pod(2)).settle()
    assert world.job.status.loss_curve == WHOLE


# Checkpoints


def test_the_newest_checkpoint_is_in_the_status_once() -> None:
    world = hear(training())
    assert world.job.status.checkpoint == checkpoint(50)
    assert world.job.status.progress is not None
    assert world.job.status.progress.checkpoint is None
    hear(world, checkpoint=checkpoint(60))
    assert world.job.status.checkpoint == checkpoint(60)


@pytest.mark.parametrize(
    "end",
    [
        interrupted(),
        pod(phase="Failed", disrupted=True, lost_reason="Preempted"),
        ended(69, TerminationMessage(reason="ServiceUnavailable", message="S3 does not answer")),
    ],
    ids=["interrupted", "pre-empted", "failed"],
)
def test_a_lost_attempt_says_from_which_step_the_next_goes_on(end: PodView) -> None:
    world = hear(training()).see(progress=None)
    made = world.see_work(Stage.TRAIN, end, retries=3).step()
    event = next(each for each in made.events if each.reason == "Retrying")
    condition = world.condition("Running")
    assert condition is not None
    assert "Another pod will follow, to go on from the checkpoint of step 50." in event.message == condition.message
    assert world.job.status.checkpoint == checkpoint(50)

    world.see_work(Stage.TRAIN).settle()
    assert "from the checkpoint of step 50" in world.condition("Running").message  # type: ignore[union-attr]


def test_the_checkpoint_that_a_signal_left_counts() -> None:
    world = hear(training()).see(progress=None)
    world.see_work(Stage.TRAIN, interrupted(checkpoint=checkpoint(63))).settle()
    assert world.job.status.checkpoint == checkpoint(63)
    assert "step 63" in world.condition("Running").message  # type: ignore[union-attr]


def test_without_a_checkpoint_none_is_promised() -> None:
    world = training().see_work(Stage.TRAIN, interrupted()).settle()
    message = world.condition("Running").message  # type: ignore[union-attr]
    assert message.startswith("Another pod will follow. ")
    assert message.endswith("stopped by SIGTERM")


def test_an_attempt_that_was_replaced_between_two_looks_is_told_all_the_same() -> None:
    world = hear(training()).see(progress=None)
    lost = interrupted(checkpoint=checkpoint(63))
    world.see_work(Stage.TRAIN, lost, pod(2)).settle()
    condition = world.condition("Running")
    assert condition is not None
    assert condition.reason == "Retrying"
    assert condition.message.startswith("Pod pod-2 starts, to go on from the checkpoint of step 63. Before it: ")
    assert condition.message.endswith("stopped by SIGTERM")
    assert world.told.count("Retrying") == 1


def test_what_an_earlier_pod_said_does_not_undo_what_a_later_one_said() -> None:
    world = hear(training()).see_work(Stage.TRAIN, interrupted(checkpoint=checkpoint(63)), running(2))
    hear(world, checkpoint=checkpoint(70), resumed_from_step=63)
    assert world.job.status.progress is not None
    assert world.job.status.progress.resumed_from_step == 63
    world.see(progress=None).settle()
    assert world.job.status.checkpoint == checkpoint(70)


# Micro-batch


def test_a_smaller_micro_batch_is_told_once_a_change() -> None:
    world = hear(training())
    assert "MicroBatchReduced" not in world.told, "as planned"
    for step in (61, 62):
        hear(world, step=step, micro_batch_size=2, accumulation_steps=8)
    assert world.told.count("MicroBatchReduced") == 1
    hear(world, micro_batch_size=1, accumulation_steps=16)
    assert world.told.count("MicroBatchReduced") == 2
    progress = world.job.status.progress
    assert progress is not None
    assert (progress.micro_batch_size, progress.accumulation_steps) == (1, 16)
    assert world.job.status.resolved is not None
    assert world.job.status.resolved.plan == RESOLVED.plan, "the plan stays what it was"


def test_the_first_report_is_held_against_the_plan() -> None:
    world = preflight_passed().see_work(Stage.TRAIN, running())
    made = world.see(progress=Progress(micro_batch_size=2, accumulation_steps=8)).step()
    event = next(each for each in made.events if each.reason == "MicroBatchReduced")
    assert event.kind == "Warning"
    assert "2 rows at once instead of 4" in event.message


def test_an_attempt_that_does_not_know_yet_keeps_the_micro_batch_of_the_last() -> None:
    world = hear(training(), micro_batch_size=2, accumulation_steps=8)
    world.see_work(Stage.TRAIN, interrupted(), running(2))
    for known in ({"micro_batch_size": None, "accumulation_steps": None}, {"micro_batch_size": 2}):
        hear(world, **known)
        assert world.job.status.progress is not None
        assert world.job.status.progress.micro_batch_size == 2
    assert world.told.count("MicroBatchReduced") == 1


@pytest.mark.parametrize("heard", [True, False], ids=["after a progress", "before any"])
def test_the_last_words_tell_a_micro_batch_that_no_progress_told(heard: bool) -> None:
    world = preflight_passed().see_work(Stage.TRAIN, running()).settle()
    if heard:
        hear(world)
    words = TRAIN_DONE.model_copy(update={"micro_batch_size": 1})
    world.see(progress=None).see_work(Stage.TRAIN, ended(0, words), complete=True).settle()
    progress = world.job.status.progress
    assert progress is not None
    assert (progress.micro_batch_size, progress.accumulation_steps) == (1, 16)
    assert world.told.count("MicroBatchReduced") == 1


# Preflight


def test_a_warning_of_the_preflight_is_one_event() -> None:
    found = RESOLVED.model_copy(update={"warnings": ["12 rows are cut", "3 rows are there twice"]})
    done = PREFLIGHT_DONE.model_copy(update={"preflight": found})
    world = accepted().see_work(Stage.PREFLIGHT, ended(0, done), complete=True)
    event = next(each for each in world.step().events if each.reason == "PreflightWarning")
    assert (event.kind, event.message) == ("Warning", "12 rows are cut; 3 rows are there twice")
    assert world.settle().told.count("PreflightWarning") == 1


def test_a_preflight_without_warnings_tells_none_and_says_what_it_found() -> None:
    world = preflight_passed()
    assert "PreflightWarning" not in world.told
    assert "trains 4.88 M of 135 M parameters" in world.condition("PreflightPassed").message  # type: ignore[union-attr]


# Gate


def gate_not_passed(**spec: Any) -> World:
    """Return a job whose adapter is published, but not better than its gate asks."""
    words = TerminationMessage(
        reason="GateNotPassed", message="evalLoss fell by 0.01, less than 0.1", step=118, adapter=ADAPTER
    )
    world = hear(training(**spec)).see(progress=None)
    return world.see_work(Stage.TRAIN, ended(81, words), failed=True, failed_reason="PodFailurePolicy").settle()


def test_an_adapter_that_does_not_pass_its_gate_is_published_but_not_served() -> None:
    world = gate_not_passed()
    status = world.job.status
    assert (status.phase, status.reason) == (Phase.FAILED, "GateNotPassed")
    assert status.failure is not None
    assert (status.failure.message, status.failure.exit_code) == ("evalLoss fell by 0.01, less than 0.1", 81)
    assert status.failure.hint
    assert (status.adapter, status.adapter_digest_short) == (ADAPTER, "abababababab")
    assert status.progress is not None
    assert (status.progress.percent, status.progress.step) == (100.0, 118)
    assert not [each for each in world.applied if each.startswith("LoRAAdapter")]
    assert "AdapterPublished" not in world.told
    assert world.told.count("GateNotPassed") == 1


def test_a_gate_that_is_not_passed_leaves_the_served_adapter_where_it_is() -> None:
    world = gate_not_passed().see(adapter=adapter_of("support-bot"), train=None, preflight=None)
    made = world.step()
    assert (made.create, made.apply, made.status) == ((), (), None)


def test_another_failure_fills_in_no_adapter_whatever_its_words_say() -> None:
    words = TerminationMessage(reason="Diverged", message="NaN", adapter=ADAPTER)
    world = training().see_work(Stage.TRAIN, ended(80, words), failed=True).settle()
    assert world.job.status.adapter is None
