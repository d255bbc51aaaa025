"""How Argo CD sees a LoRAJob: the shipped Lua, run by a real Lua interpreter on statuses that the operator writes."""

from collections.abc import Callable
from pathlib import Path

import lupa
import pytest

from lora_operator.domain.observed import Stage
from support.world import World, accepted, ended, preflight_passed, succeeded, training, waiting

SCRIPT = Path(__file__).resolve().parents[3] / "manifests" / "argocd" / "lorajob-health.lua"


def health(world: World, *, generation: int | None = None) -> tuple[str, str]:
    """Return the health and the message of a job."""
    lua = lupa.LuaRuntime(unpack_returned_tuples=True)
    wire = world.job.status.wire()
    metadata = {"generation": world.job.generation if generation is None else generation}
    lua.globals().obj = lua.table_from({"metadata": metadata, "status": wire}, recursive=True)
    found = lua.execute(SCRIPT.read_text())
    return found["status"], found["message"]


def suspended() -> World:
    return training().edit(suspend=True).settle().gone().settle()


def stalled() -> World:
    return accepted().see_work(Stage.PREFLIGHT, waiting("ErrImagePull", "manifest unknown")).settle()


def failed() -> World:
    return training().see_work(Stage.TRAIN, ended(80), failed=True).settle()


def going_on() -> World:
    """Return a failed job whose spec was corrected."""
    return failed().edit(resources={"memory": "64Gi"}).settle().gone().settle()


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (accepted, "Progressing"),
        (preflight_passed, "Progressing"),
        (training, "Progressing"),
        (succeeded, "Healthy"),
        (suspended, "Suspended"),
        (stalled, "Degraded"),
        (failed, "Degraded"),
        (going_on, "Progressing"),
    ],
)
def test_health(state: Callable[[], World], expected: str) -> None:
    found, message = health(state())
    assert found == expected
    assert message


def test_a_spec_that_was_not_seen_yet_is_progressing_whatever_the_last_run_did() -> None:
    world = succeeded()
    assert health(world, generation=world.job.generation + 1)[0] == "Progressing"


def test_a_job_without_a_status_is_progressing() -> None:
    assert health(World.of())[0] == "Progressing"
