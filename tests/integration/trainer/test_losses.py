"""The losses: means over what is learned, whatever the batches and the layout."""

import pytest
import torch
from torch.nn import functional

from lora_trainer.training.trainer import LoraTrainer
from support.tiny_training import losses_of, random_examples, random_pairs, tiny_llama, tiny_trainer, weights_of


def reference_loss(model, examples):
    """Return the mean over all learned tokens, row by row, without padding and with all logits."""
    total, tokens = 0.0, 0
    for place in range(len(examples)):
        row = examples[place]
        ids, labels = (torch.tensor(row[name]).long() for name in ("input_ids", "labels"))
        with torch.no_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
        total += float(functional.cross_entropy(logits, labels[1:], reduction="sum"))
        tokens += int((labels[1:] != -100).sum())
    return total / tokens


def test_the_evaluation_loss_is_the_token_mean_for_every_batch_size_and_layout(tmp_path):
    losses = []
    for micro_batch, packing in [(1, False), (4, False), (8, False), (2, True), (8, True)]:
        trainer = tiny_trainer(tmp_path, micro_batch=micro_batch, packing=packing)
        losses.append(trainer.measure(trainer.model, trainer.job.validation)[0]["evalLoss"])
    plain = tiny_trainer(tmp_path).model
    assert losses == pytest.approx([reference_loss(plain, random_examples())] * 5, rel=1e-6)


class KeepsGradients(LoraTrainer):
    """Remembers the gradients of the step before they are clipped."""

    def _clip_grad_norm(self, model):
        self.gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad}
        return super()._clip_grad_norm(model)


@pytest.mark.parametrize(("micro_batch", "packing"), [(2, False), (8, False), (1, True), (8, True)])
def test_micro_batches_and_packing_leave_the_gradients_of_a_step_as_they_are(tmp_path, micro_batch, packing):
    one = tiny_trainer(tmp_path, micro_batch=1, steps=1, kind=KeepsGradients)
    other = tiny_trainer(tmp_path, micro_batch=micro_batch, packing=packing, steps=1, kind=KeepsGradients)
    for trainer in (one, other):
        trainer.run()
    assert one.gradients.keys() == other.gradients.keys()
    for name, gradient in one.gradients.items():
        torch.testing.assert_close(other.gradients[name], gradient, rtol=1e-5, atol=1e-6)
    assert losses_of(other) == pytest.approx(losses_of(one), rel=1e-5)


@pytest.mark.parametrize("packing", [False, True])
def test_a_whole_run_ends_with_the_same_weights_packed_and_padded(tmp_path, packing):
    padded = tiny_trainer(tmp_path, micro_batch=1)
    other = tiny_trainer(tmp_path, micro_batch=4, packing=packing)
    padded.run()
    other.run()
    assert losses_of(other) == pytest.approx(losses_of(padded), rel=1e-4)
    for name, weight in weights_of(padded).items():
        torch.testing.assert_close(weights_of(other)[name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("loss", "trl_name"), [("Sigmoid", "sigmoid"), ("IPO", "ipo"), ("Hinge", "hinge")])
@pytest.mark.parametrize("packing", [False, True])
def test_preference_losses_are_those_of_the_papers(tmp_path, loss, trl_name, packing):
    pairs = random_pairs()
    trainer = tiny_trainer(
        tmp_path,
        objective="DPO",
        train=pairs,
        packing=packing,
        steps=1,
        preference={"beta": 0.3, "loss": loss},
    )
    metrics, count = trainer.measure(trainer.model, pairs)
    expected, won = reference_preferences(tiny_llama(), pairs, 0.3, trl_name)
    assert count == len(pairs)
    assert metrics["evalLoss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["rewardAccuracy"] == pytest.approx(won)


def reference_preferences(model, pairs, beta, kind):
    """Return the mean loss and the share of pairs won, pair by pair, with all logits."""
    losses, won = [], 0
    for place in range(len(pairs)):
        gains = []
        for side in ("chosen", "rejected"):
            ids, labels = (torch.tensor(pairs[place][f"{side}_{name}"]).long() for name in ("input_ids", "labels"))
            learned = labels[1:] != -100
            with torch.no_grad():
                policy = log_probability(model, ids, labels, learned)
                with model.disable_adapter():
                    reference = log_probability(model, ids, labels, learned)
            gains.append((policy - reference) / (int(learned.sum()) if kind == "ipo" else 1))
        margin = gains[0] - gains[1]
        won += float(margin > 0)
        losses.append(
            {
                "sigmoid": -functional.logsigmoid(beta * margin),
                "ipo": (margin - 1 / (2 * beta)) ** 2,
                "hinge": torch.relu(1 - beta * margin),
            }[kind]
        )
    return float(torch.stack(losses).mean()), won / len(pairs)


def log_probability(model, ids, labels, learned):
    logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1].log_softmax(-1)
    return logits[learned].gather(1, labels[1:][learned][:, None]).sum()


def test_preference_training_prefers_the_chosen_answers(tmp_path):
    trainer = tiny_trainer(tmp_path, objective="DPO", train=random_pairs(), steps=8, packing=True)
    trainer.run()
    metrics = trainer.recorder.final_metrics(trainer.published_step)
    assert metrics["evalLoss"] < metrics["baseEvalLoss"]
    assert metrics["rewardAccuracy"] == 1.0
    assert metrics["rewardMargin"] > 0
