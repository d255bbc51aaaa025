"""The loop: it goes on exactly where it stopped, mends an out-of-memory, and ends a lost run at once."""

import pytest
import torch

from lora_api.exit_codes import ExitCode
from lora_trainer.data.examples import IGNORED, examples_of
from lora_trainer.errors import OutOfGpuMemoryError, TrainerError
from lora_trainer.signals import InterruptionError, StopSignal
from lora_trainer.training.trainer import LoraTrainer
from support.tiny_training import (
    KeptCheckpoints,
    losses_of,
    random_examples,
    tiny_llama,
    tiny_trainer,
    weights_of,
)

DROPOUT = 0.1


def history(trainer):
    """Return the history without what a clock has part in."""
    return [
        {name: value for name, value in line.items() if name not in ("time", "tokensPerSecond")}
        for line in trainer.recorder.history
    ]


class StopsIn(LoraTrainer):
    """Gets a SIGTERM in the midst of a step, or of the evaluation after it."""

    step = 0
    evaluation = False

    def _accumulate(self, model, step):
        if step == self.step and not self.evaluation:
            self._stop.request("SIGTERM")
        return super()._accumulate(model, step)

    def measure(self, model, examples):
        if self.state.global_step == self.step and self.evaluation:
            self._stop.request("SIGTERM")
        return super().measure(model, examples)


def stops_in(step, *, evaluation=False):
    return type("Stops", (StopsIn,), {"step": step, "evaluation": evaluation})


@pytest.mark.parametrize(
    ("kind", "step"),
    [(stops_in(0), 1), (stops_in(4), 5), (stops_in(7), 8), (stops_in(8, evaluation=True), 8), (stops_in(11), 12)],
    ids=["first step", "before an evaluation", "midst", "within an evaluation", "last step"],
)
def test_a_training_that_was_stopped_goes_on_bit_for_bit(tmp_path, kind, step):
    whole = tiny_trainer(tmp_path, model=tiny_llama(dropout=DROPOUT), steps=12)
    whole.run()
    kept = KeptCheckpoints()
    stopped = tiny_trainer(tmp_path, model=tiny_llama(dropout=DROPOUT), steps=12, checkpoints=kept, kind=kind)
    with pytest.raises(InterruptionError, match=f"after step {step} of 12"):
        stopped.run()
    assert kept.states[-1].step == step
    resumed = tiny_trainer(tmp_path, model=tiny_llama(dropout=DROPOUT), steps=12, found=kept.states[-1])
    resumed.run()
    assert all(torch.equal(weights_of(resumed)[name], each) for name, each in weights_of(whole).items())
    assert history(resumed) == history(whole)
    assert resumed.published_step == whole.published_step


def test_checkpoints_come_as_often_as_asked_and_at_the_end(tmp_path):
    kept = KeptCheckpoints()
    tiny_trainer(tmp_path, steps=7, checkpoints=kept, checkpoint={"every": 3}).run()
    assert [state.step for state in kept.states] == [3, 6, 7]


def test_a_stop_before_the_first_step_has_nothing_to_save(tmp_path):
    kept, stop = KeptCheckpoints(), StopSignal()
    with stop.deferred():
        stop.request("SIGTERM")
    trainer = tiny_trainer(tmp_path, checkpoints=kept, stop=stop)
    with pytest.raises(InterruptionError):
        trainer.run()
    assert kept.states == []


class RunsOutOfMemory(LoraTrainer):
    """Has room for two rows at once from the third step on."""

    def _accumulate(self, model, step):
        if step >= 2 and self.plan.micro_batch_size > 2:
            raise torch.OutOfMemoryError
        return super()._accumulate(model, step)


def test_out_of_memory_halves_the_micro_batch_and_changes_nothing_else(tmp_path):
    plain, short = tiny_trainer(tmp_path, micro_batch=8), tiny_trainer(tmp_path, micro_batch=8, kind=RunsOutOfMemory)
    plain.run()
    short.run()
    assert (short.plan.micro_batch_size, short.plan.accumulation_steps) == (2, 4)
    assert short.progress.current.micro_batch_size == 2
    assert short.state.global_step == plain.state.global_step == 6
    assert [line["tokens"] for line in short.recorder.history if "tokens" in line] == [
        line["tokens"] for line in plain.recorder.history if "tokens" in line
    ]
    assert losses_of(short) == pytest.approx(losses_of(plain), rel=1e-5)


def test_out_of_memory_with_one_row_at_a_time_is_the_end(tmp_path):
    class Never(LoraTrainer):
        def _accumulate(self, model, step):
            raise torch.OutOfMemoryError

    with pytest.raises(OutOfGpuMemoryError) as caught:
        tiny_trainer(tmp_path, kind=Never).run()
    assert caught.value.exit_code == ExitCode.OUT_OF_GPU_MEMORY
    assert not caught.value.can_shrink


def poison(value):
    class Poisoned(LoraTrainer):
        def _accumulate(self, model, step):
            loss = super()._accumulate(model, step)
            if step == 4:
                next(each for each in model.parameters() if each.requires_grad).grad.fill_(value)
                return loss * value
            return loss

    return Poisoned


@pytest.mark.parametrize(("value", "code"), [(float("nan"), 80), (float("inf"), 80), (1e6, 80)])
def test_a_lost_run_ends_within_the_step_and_keeps_the_last_good_checkpoint(tmp_path, value, code):
    kept = KeptCheckpoints()
    trainer = tiny_trainer(tmp_path, steps=10, checkpoints=kept, checkpoint={"every": 2}, kind=poison(value))
    with pytest.raises(TrainerError, match="of step 5") as caught:
        trainer.run()
    assert caught.value.exit_code == code
    assert [state.step for state in kept.states] == [2, 4]
    assert all(each.isfinite().all() for each in weights_of(trainer).values()), "the bad step must not be applied"


def test_a_gradient_of_zero_is_an_error(tmp_path):
    class Detached(LoraTrainer):
        def _accumulate(self, model, step):
            loss = super()._accumulate(model, step)
            for each in model.parameters():
                if each.grad is not None:
                    each.grad.zero_()
            return loss

    with pytest.raises(TrainerError, match="exactly zero"):
        tiny_trainer(tmp_path, kind=Detached).run()


def test_an_adapter_that_does_not_move_is_an_error(tmp_path):
    class Frozen(LoraTrainer):
        def create_scheduler(self, num_training_steps, optimizer=None):
            scheduler = super().create_scheduler(num_training_steps, optimizer)
            for group in self.optimizer.param_groups:
                group["lr"] = 0.0
            return scheduler

    with pytest.raises(TrainerError, match="did not change"):
        tiny_trainer(tmp_path, kind=Frozen).run()


def test_early_stopping_ends_the_run_and_the_best_model_is_left(tmp_path):
    strangers = random_examples(seed=9)  # what is learned of one set of noise makes another one worse
    trainer = tiny_trainer(tmp_path, steps=40, validation=strangers, learningRate=0.05, earlyStopping={"patience": 2})
    trainer.run()
    evaluations = trainer.recorder.evaluations
    assert trainer.state.global_step < 40
    assert trainer.published_step == min(evaluations[1:], key=lambda each: each.loss).step
    assert trainer.published_step < trainer.state.global_step
    loss = trainer.measure(trainer.model, strangers)[0]["evalLoss"]
    assert loss == pytest.approx(trainer.recorder.metrics_at(trainer.published_step)["evalLoss"], rel=1e-6)


def test_a_model_that_memorizes_raises_the_alarm(tmp_path):
    trainer = tiny_trainer(tmp_path, steps=20, train=answers(7), validation=answers(8), learningRate=0.03)
    trainer.run()
    assert "the evaluation loss rose" in trainer.progress.current.overfitting


def answers(token):
    """Return rows that all have the same answer: whoever learns one of them unlearns any other."""
    return examples_of(
        [{"input_ids": [place, 1, *[token] * 6], "labels": [IGNORED] * 2 + [token] * 6} for place in range(10, 26)]
    )


def test_asked_metrics_are_measured_before_and_after(tmp_path):
    trainer = tiny_trainer(
        tmp_path, steps=30, learningRate=0.05, evaluation={"metrics": ["tokenAccuracy", "exactMatch", "perplexity"]}
    )
    trainer.run()
    metrics = trainer.recorder.final_metrics(trainer.published_step)
    assert metrics["tokenAccuracy"] > metrics["baseTokenAccuracy"]
    assert 0 <= metrics["exactMatch"] <= metrics["tokenAccuracy"] <= 1
    assert metrics["perplexity"] < metrics["basePerplexity"]
