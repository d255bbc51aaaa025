"""A checkpoint of sharded weights is whole: as many ranks as one likes can go on from it, also one alone."""

import multiprocessing

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from lora_trainer.checkpoint.state import (
    TrainingState,
    adapter_state,
    load_adapter,
    load_optimizer_state,
    optimizer_state,
    read_state,
    write_state,
)

RANKS = 2


class Training:
    """A tiny model, sharded or not, and a real optimizer."""

    def __init__(self, seed: int, *, sharded: bool) -> None:
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 3))
        if sharded:
            fully_shard(self.model, mesh=init_device_mesh("cpu", (RANKS,)))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)

    def steps(self, first: int, last: int) -> None:
        for step in range(first, last):
            inputs = torch.full((4, 6), 0.1 * (step + 1))
            self.model(inputs).square().sum().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def state(self) -> TrainingState:
        named = list(self.model.named_parameters())
        return TrainingState(2, adapter_state(named), optimizer_state(self.optimizer, named), {}).snapshot()

    def restore(self, state: TrainingState) -> None:
        load_adapter(self.model.named_parameters(), state.adapter)
        load_optimizer_state(self.optimizer, self.model.named_parameters(), state.optimizer)


def rank_main(rank, folder):
    store = distributed.FileStore(str(folder / "rendezvous"), RANKS)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    whole = Training(seed=1, sharded=True)
    whole.steps(0, 2)
    saved = whole.state()
    whole.steps(2, 4)
    resumed = Training(seed=2, sharded=True)
    resumed.restore(saved)
    assert all(isinstance(each, DTensor) for each in resumed.model.parameters())
    assert all(isinstance(each["exp_avg"], DTensor) for each in resumed.optimizer.state.values())
    resumed.steps(2, 4)
    end, resumed_end = whole.state(), resumed.state()
    if rank == 0:
        for name, state in (("saved", saved), ("end", end), ("resumed", resumed_end)):
            write_state(folder / name, state)
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture
def states(tmp_path):
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=rank_main, args=(rank, tmp_path)) for rank in range(RANKS)]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join(120)
    assert [each.exitcode for each in ranks] == [0] * RANKS
    return {name: read_state(tmp_path / name) for name in ("saved", "end", "resumed")}


def test_sharded_ranks_go_on_bit_for_bit_and_one_alone_can_take_over(states):
    for part in ("adapter", "optimizer"):
        end, resumed = getattr(states["end"], part), getattr(states["resumed"], part)
        assert end.keys() == resumed.keys()
        assert all(torch.equal(end[name], resumed[name]) for name in end)

    alone = Training(seed=3, sharded=False)
    alone.restore(states["saved"])
    alone.steps(2, 4)
    for name, value in alone.state().adapter.items():
        torch.testing.assert_close(value, states["end"].adapter[name])
