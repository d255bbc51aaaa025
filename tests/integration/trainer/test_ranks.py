"""Two processes learn what one process learns: with the model on each of them, and with a part of it on each."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).parents[2] / "support" / "rank_worker.py"


def train(out: Path, mode: str, processes: int) -> dict:
    """Run the worker in some processes, and return what the first one wrote."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = os.environ | {
        "PYTHONPATH": str(WORKER.parents[1]),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }
    environments = [
        common | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}) for rank in range(processes)
    ]
    running = [
        subprocess.Popen([sys.executable, str(WORKER), str(out), mode], env=each, stderr=subprocess.PIPE, text=True)
        for each in environments
    ]
    ends = [(each.communicate(timeout=300)[1], each.returncode) for each in running]
    assert [code for _, code in ends] == [0] * processes, ends[0][0][-3000:]
    return torch.load(out, weights_only=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return train(tmp_path_factory.mktemp("alone") / "out.pt", "plain", 1)


@pytest.mark.parametrize("mode", ["ddp", "ddp packed", "fsdp"])
def test_two_processes_have_the_gradients_and_losses_of_one(alone, tmp_path, mode):
    together = train(tmp_path / "out.pt", mode, 2)
    assert together["sharded"] is (mode == "fsdp")
    assert together["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    assert together["gradients"].keys() == alone["gradients"].keys()
    for name, gradient in alone["gradients"].items():
        torch.testing.assert_close(together["gradients"][name], gradient, rtol=1e-5, atol=1e-6)
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(together["weights"][name], weight, rtol=1e-3, atol=1e-4)
