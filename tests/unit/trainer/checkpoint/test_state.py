"""A training that goes on from a checkpoint equals one that was never stopped, in every bit."""

import json
import math
import random

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from lora_api.exit_codes import ExitCode
from lora_trainer.checkpoint.state import (
    TrainingState,
    adapter_state,
    capture_random,
    load_adapter,
    load_optimizer_state,
    optimizer_state,
    read_state,
    restore_random,
    write_state,
)
from lora_trainer.errors import TrainerError


class Training:
    """A real model with dropout and a real optimizer; each step's data are a function of its number."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(0)
        base = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=64,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
            )
        )
        torch.manual_seed(seed)
        self.model = get_peft_model(base, LoraConfig(r=4, lora_dropout=0.3, target_modules="all-linear")).train()
        trainable = [each for each in self.model.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=0.01, fused=True)

    def steps(self, first: int, last: int) -> list[float]:
        """Train; return the losses."""
        losses = []
        for step in range(first, last):
            ids = torch.from_numpy(np.random.default_rng(step).integers(0, 64, (2, 12)))
            loss = self.model(input_ids=ids, labels=ids).loss
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    def state(self, step: int, **more) -> TrainingState:
        return TrainingState(
            step=step,
            adapter=adapter_state(self.model.named_parameters()),
            optimizer=optimizer_state(self.optimizer, self.model.named_parameters()),
            random={0: capture_random()},
            **more,
        )

    def restore(self, state: TrainingState) -> None:
        load_adapter(self.model.named_parameters(), state.adapter)
        load_optimizer_state(self.optimizer, self.model.named_parameters(), state.optimizer)
        restore_random(state.random[0])


@pytest.fixture(autouse=True)
def _generators():
    before = capture_random()
    yield
    restore_random(before)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one
    )


def test_a_restored_training_goes_on_bit_for_bit(tmp_path):
    whole = Training(seed=1)
    whole.steps(0, 3)
    snapshot = whole.state(3).snapshot()
    expected = whole.steps(3, 6)
    write_state(tmp_path, snapshot)

    resumed = Training(seed=2)  # another adapter, and generators that stand elsewhere
    resumed.restore(read_state(tmp_path))
    assert resumed.steps(3, 6) == expected
    end, expected_end = resumed.state(6), whole.state(6)
    assert same(end.adapter, expected_end.adapter)
    assert same(end.optimizer, expected_end.optimizer)
    assert same(end.random[0], expected_end.random[0])


def test_dropout_is_on_in_these_tests():
    training = Training(seed=1)
    before = capture_random()
    training.steps(0, 1)
    assert not same(before, capture_random())


def test_a_state_reads_back_as_it_was_written(tmp_path):
    training = Training(seed=1)
    training.steps(0, 1)
    state = training.state(
        1,
        position={"microBatchSize": 2},
        history=[{"step": 1, "loss": 0.1 + 0.2, "gradNorm": math.inf}],
        scaler={"scale": 65536.0, "_growth_tracker": 3},
        guard={"first": 4.2, "base": None},
        best_adapter={name: value + 1 for name, value in adapter_state(training.model.named_parameters()).items()},
        initial={"layer.lora_A": torch.ones(2, 3, dtype=torch.bfloat16)},
    ).snapshot()
    write_state(tmp_path, state)
    found = read_state(tmp_path)
    for name in ("step", "position", "history", "scaler", "guard"):
        assert getattr(found, name) == getattr(state, name), name
    assert same(found.adapter, state.adapter)
    assert same(found.optimizer, state.optimizer)
    assert same(found.best_adapter, state.best_adapter)
    assert same(found.initial, state.initial)
    assert same(found.random[0], state.random[0])


def test_the_files_hold_no_code(tmp_path):
    training = Training(seed=1)
    training.steps(0, 1)
    write_state(tmp_path, training.state(1))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["adapter.safetensors", "optimizer.safetensors", "random-0.safetensors", "state.json"]
    json.loads((tmp_path / "state.json").read_text())


def test_a_snapshot_does_not_change_while_training_goes_on():
    training = Training(seed=1)
    training.steps(0, 1)
    history = [{"step": 1}]
    snapshot = training.state(1, history=history).snapshot()
    before = {name: value.clone() for name, value in (snapshot.adapter | snapshot.optimizer).items()}
    history.append({"step": 2})
    training.steps(1, 2)
    assert same(snapshot.adapter | snapshot.optimizer, before)
    assert snapshot.history == [{"step": 1}]


def test_a_restored_optimizer_does_not_write_into_the_state_it_came_from():
    training = Training(seed=1)
    training.steps(0, 1)
    snapshot = training.state(1).snapshot()
    before = {name: value.clone() for name, value in snapshot.optimizer.items()}
    training.restore(snapshot)
    training.steps(1, 2)
    assert same(snapshot.optimizer, before)


def test_every_rank_has_its_own_generators(tmp_path):
    torch.manual_seed(5)
    first = capture_random()
    torch.rand(1)
    second = capture_random()
    write_state(tmp_path, TrainingState(step=0, adapter={}, optimizer={}, random={0: first, 1: second}))
    found = read_state(tmp_path).random
    assert same(found[0], first)
    assert same(found[1], second)


def test_all_generators_of_the_process_are_restored():
    random.gauss(0, 1)  # of a pair of numbers one is kept for the next call
    np.random.standard_normal()
    state = capture_random()
    draws = [[random.gauss(0, 1), np.random.standard_normal(), torch.rand(1).item()] for _ in range(3)]
    restore_random(state)
    assert [[random.gauss(0, 1), np.random.standard_normal(), torch.rand(1).item()] for _ in range(3)] == draws


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_weights_of_another_adapter_are_refused(change):
    training = Training(seed=1)
    saved = dict(training.state(0).snapshot().adapter)
    name = sorted(saved)[0]
    if change == "missing":
        del saved[name]
    elif change == "unknown":
        saved["other"] = torch.zeros(1)
    else:
        saved[name] = torch.zeros(1)
    with pytest.raises(TrainerError, match="the checkpoint has") as caught:
        load_adapter(training.model.named_parameters(), saved)
    assert caught.value.exit_code == ExitCode.INTERNAL_ERROR


def test_the_state_of_another_optimizer_is_refused_and_none_at_all_is_a_start():
    training = Training(seed=1)
    training.steps(0, 1)
    saved = dict(training.state(1).optimizer)
    del saved[sorted(saved)[0]], saved[sorted(saved)[1]], saved[sorted(saved)[0]]
    fresh = Training(seed=1)
    with pytest.raises(TrainerError, match="optimizer states"):
        load_optimizer_state(fresh.optimizer, fresh.model.named_parameters(), saved)
    load_optimizer_state(fresh.optimizer, fresh.model.named_parameters(), {})
    assert not fresh.optimizer.state
