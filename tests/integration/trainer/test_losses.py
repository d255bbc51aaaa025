"""The losses: means over supervised tokens, whatever the batches."""

from array import array

import pytest
import torch

from lora_api.messages import Plan
from lora_api.training import Lora, Scheduler, Training
from lora_trainer.data.prepare import Example
from lora_trainer.model.load import add_adapter, load_base
from lora_trainer.progress import ProgressState
from lora_trainer.signals import StopSignal
from lora_trainer.train import training_arguments
from lora_trainer.training.recorder import Recorder
from lora_trainer.training.trainer import Collator, LoraTrainer

LENGTHS = [5, 40, 9, 33, 7, 21, 12, 60, 6, 17, 28, 11, 45, 8, 19, 31]


def examples():
    generator = torch.Generator().manual_seed(1)
    rows = []
    for length in LENGTHS:
        ids = torch.randint(0, 300, (length,), generator=generator).tolist()
        learned = [0] * (length // 3) + [1] * (length - length // 3)
        rows.append(Example(array("i", ids), array("b", learned)))
    return rows


@pytest.fixture
def make_trainer(tiny_base, tmp_path):
    def make(micro, accumulation, kind=LoraTrainer):
        plan = Plan(micro_batch_size=micro, accumulation_steps=accumulation, max_length=64, total_steps=1)
        cpu = torch.device("cpu")
        arguments = training_arguments(Training(), plan, tmp_path, torch.float32, cpu, evaluate=True)
        model = add_adapter(load_base(tiny_base, torch.float32), Lora(rank=4), seed=1)
        for name, weight in model.named_parameters():  # an adapter that acts, so that both matrices get gradients
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        progress = ProgressState()
        return kind(
            model,
            arguments,
            examples(),
            examples(),
            Collator(0),
            scheduler=Scheduler.COSINE,
            warmup=0,
            recorder=Recorder(tmp_path / "metrics.jsonl", progress, 1),
            progress=progress,
            stop=StopSignal(),
        )

    return make


def reference_loss(model):
    """Return the mean over all supervised tokens, row by row, without padding and with all logits."""
    total, tokens = 0.0, 0
    for row in examples():
        ids = torch.tensor(list(row.ids))
        with torch.no_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
        learned = torch.tensor(list(row.learned), dtype=torch.bool)[1:]
        losses = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
        total, tokens = total + float(losses[learned].sum()), tokens + int(learned.sum())
    return total / tokens


def test_the_evaluation_loss_is_the_token_mean_for_every_batch_size(make_trainer):
    losses = []
    for size in (1, 4, 16):
        trainer = make_trainer(size, 1)
        losses.append(trainer.evaluate()["eval_loss"])
        expected = reference_loss(trainer.model)
    assert losses == pytest.approx([expected] * 3, rel=1e-5)


class KeepsGradients(LoraTrainer):
    """Remembers the gradients of the step before they are clipped."""

    def _clip_grad_norm(self, model):
        self.gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad}
        return super()._clip_grad_norm(model)


@pytest.mark.parametrize(("micro", "accumulation"), [(4, 2), (8, 1), (2, 4)])
def test_accumulation_gives_the_gradients_of_the_whole_batch(make_trainer, micro, accumulation):
    one = make_trainer(1, 8, KeepsGradients)
    other = make_trainer(micro, accumulation, KeepsGradients)
    for trainer in (one, other):
        torch.manual_seed(5)
        trainer.train()
    assert one.gradients.keys() == other.gradients.keys()
    for name, gradient in one.gradients.items():
        torch.testing.assert_close(other.gradients[name], gradient, rtol=1e-5, atol=1e-6)
    loss = [each["loss"] for each in one.state.log_history if "loss" in each]
    assert [each["loss"] for each in other.state.log_history if "loss" in each] == pytest.approx(loss, rel=1e-5)


def test_logits_are_computed_only_where_something_is_learned(make_trainer):
    trainer = make_trainer(4, 1)
    seen = []
    head = trainer.model.get_base_model().lm_head
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    batch = Collator(0)(examples()[:4])
    trainer.summed_loss(trainer.model, batch)
    assert seen == [len(batch["positions"])]
    assert seen[0] < batch["input_ids"].shape[1]
