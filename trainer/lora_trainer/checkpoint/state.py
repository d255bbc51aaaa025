"""What a checkpoint holds, and its files: whatever decides the rest of the run, bit for bit.

Only safetensors and JSON, never pickle, so that reading a checkpoint runs no code. Nothing here knows of S3. The
schedule of the learning rate and the order of the data are functions of the step, so the step is all they need.
"""

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor, distribute_tensor

from lora_trainer.errors import internal

Tensors = dict[str, torch.Tensor]
RandomState = Tensors
"""States of the generators of one process: `python`, `numpy`, `torch`, `cuda` where there is one."""
NamedParameters = Iterable[tuple[str, torch.nn.Parameter]]

_TENSORS = ("adapter", "optimizer", "best_adapter", "initial")
"""Fields with a file of their own, of the same name."""
_RANDOM = "random-{rank}.safetensors"
_STATE = "state.json"
_PYTHON_GENERATOR = 3
"""Version of the tuple that `random.getstate` returns."""


@dataclass(frozen=True)
class TrainingState:
    """A training between two steps. What is neither tensor nor generator is JSON values: string keys, no tuples."""

    step: int
    """Finished optimizer steps."""
    adapter: Tensors
    """Trainable weights, see `adapter_state`."""
    optimizer: Tensors
    """See `optimizer_state`."""
    random: dict[int, RandomState]
    """Random generators of each rank, see `capture_random`."""
    position: dict[str, Any] = field(default_factory=dict)
    """The plan that is in force, which an out-of-memory may have changed."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """Every line of metrics.jsonl so far."""
    scaler: dict[str, Any] | None = None
    """State of the FP16 loss scaler."""
    guard: dict[str, Any] = field(default_factory=dict)
    """State of the loss guard."""
    best_adapter: Tensors | None = None
    """Weights of the best evaluation in the history, a copy that nobody changes. Every checkpoint has them, so the
    best ones are never among what is removed."""
    initial: Tensors | None = None
    """Factors that the adapter took out of the base when the run began (PiSSA, OLoRA); nobody changes them."""

    def snapshot(self) -> "TrainingState":
        """Return a copy on the CPU, which training on does not change. Takes one copy of weights and optimizer."""
        adapter, optimizer = _copied(self.adapter), _copied(self.optimizer)
        return replace(self, adapter=adapter, optimizer=optimizer, history=list(self.history))


def write_state(folder: Path, state: TrainingState) -> None:
    """Write the files of a state into a folder, which is made. Raises `OSError` when the disk is full."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _TENSORS:
        tensors = getattr(state, name)
        if tensors is not None:
            _write_tensors(folder / f"{name}.safetensors", tensors)
    for rank, generators in state.random.items():
        _write_tensors(folder / _RANDOM.format(rank=rank), generators)
    plain = {each.name: getattr(state, each.name) for each in fields(state) if each.name not in (*_TENSORS, "random")}
    (folder / _STATE).write_text(json.dumps(plain | {"ranks": sorted(state.random)}), encoding="utf-8")


def read_state(folder: Path) -> TrainingState:
    """Return the state that `write_state` wrote; equal to it in every bit. The files are verified already."""
    plain = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    generators = {rank: load_file(folder / _RANDOM.format(rank=rank)) for rank in plain.pop("ranks")}
    paths = {name: folder / f"{name}.safetensors" for name in _TENSORS}
    tensors = {name: load_file(path) for name, path in paths.items() if path.exists()}
    return TrainingState(random=generators, **tensors, **plain)


def capture_random() -> RandomState:
    """Return the states of all generators of this process.

    Dropout draws from torch's. The others belong to it, because a library may draw from them unasked.
    """
    _, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    state = {
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.from_numpy(np.append(keys, [position, has_gauss]).astype(np.int64)),
        "numpy.gauss": torch.tensor(cached, dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if gauss is not None:
        state["python.gauss"] = torch.tensor(gauss, dtype=torch.float64)
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random(state: RandomState) -> None:
    """Set all generators of this process to the states that were captured. Draws from none of them."""
    gauss = state.get("python.gauss")
    random.setstate((_PYTHON_GENERATOR, tuple(state["python"].tolist()), None if gauss is None else gauss.item()))
    *keys, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, np.uint32), position, has_gauss, state["numpy.gauss"].item()))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def adapter_state(named_parameters: NamedParameters) -> Tensors:
    """Return the trainable weights by the parameter's name, whole even where the ranks hold parts of them.

    They are not copied. With sharded weights every rank must call this, as parts are gathered; so for the functions
    below, which deal them out again.
    """
    return {name: _whole(value.detach()) for name, value in named_parameters if value.requires_grad}


def load_adapter(named_parameters: NamedParameters, saved: Mapping[str, torch.Tensor]) -> None:
    """Set the trainable weights to saved ones. Raises `TrainerError` (70) when names or shapes differ."""
    trainable = {name: value for name, value in named_parameters if value.requires_grad}
    _check_names(set(saved), set(trainable), "weights")
    with torch.no_grad():
        for name, parameter in trainable.items():
            if saved[name].shape != parameter.shape:
                raise internal(f"the checkpoint has {name} with another shape", "start a new run")
            parameter.copy_(_part(saved[name], parameter))


def optimizer_state(optimizer: torch.optim.Optimizer, named_parameters: NamedParameters) -> Tensors:
    """Return what the optimizer keeps of each parameter, by `<parameter>/<key>`, as in `/exp_avg`. Not copied.

    By name and not by number, so that parameters in another order are no silent mix-up.
    """
    names = {parameter: name for name, parameter in named_parameters}
    return {
        f"{names[parameter]}/{key}": _whole(value)
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, named_parameters: NamedParameters, saved: Mapping[str, torch.Tensor]
) -> None:
    """Set what the optimizer keeps of its parameters. Learning rates and other settings stay.

    Raises `TrainerError` (70) when the parameters differ.
    """
    names = {parameter: name for name, parameter in named_parameters}
    states: dict[str, Tensors] = {}
    for path, value in saved.items():
        name, _, key = path.rpartition("/")
        states.setdefault(name, {})[key] = value
    parameters = [each for group in optimizer.param_groups for each in group["params"]] if states else []
    _check_names(set(states), {names[each] for each in parameters}, "optimizer states")
    parts = {number: _parts(states[names[each]], each) for number, each in enumerate(parameters)}
    optimizer.load_state_dict({"state": parts, "param_groups": optimizer.state_dict()["param_groups"]})


def _check_names(saved: set[str], expected: set[str], what: str) -> None:
    differing = sorted(saved ^ expected)
    if differing:
        raise internal(f"the checkpoint has {what} of other parameters, such as {differing[0]}", "start a new run")


def _parts(state: Tensors, parameter: torch.Tensor) -> Tensors:
    # Copies: the optimizer writes into what it is given. The count of its steps is a number, which every rank has.
    return {key: _part(value, parameter).clone() if value.dim() else value.clone() for key, value in state.items()}


def _part(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _copied(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _write_tensors(path: Path, tensors: Tensors) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
