"""Trainer and engine share their largest layer only while both Dockerfiles begin alike and both want the same torch."""

import re
from pathlib import Path

from devcluster.images import ALL_IMAGES, DISK_GIB
from devcluster.settings import REPOSITORY

TORCH = "requirements/trainer-torch.txt"
FINAL_STAGE = "\nFROM ${BASE_IMAGE}\n"


def instructions(dockerfile: str) -> list[str]:
    """Return the instructions of the last stage."""
    text = (REPOSITORY / dockerfile).read_text().rpartition(FINAL_STAGE)[2]
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return [each.strip() for each in re.split(r"\n(?=[A-Z]+ )", lines)]


def versions(requirements: str) -> dict[str, str]:
    """Return the version of each package."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (REPOSITORY / requirements).read_text(), re.MULTILINE))


def test_the_engine_begins_like_the_trainer_up_to_its_torch() -> None:
    trainer, engine = instructions("trainer/Dockerfile"), instructions("hack/engine/Dockerfile")
    installs_torch = next(index for index, each in enumerate(trainer) if each.startswith("RUN") and TORCH in each)
    assert engine[: installs_torch + 1] == trainer[: installs_torch + 1]


def test_the_engine_has_the_torch_of_the_trainer() -> None:
    shared = versions(TORCH)
    engine = versions("requirements/engine.txt")
    assert {name: engine[name] for name in shared if name.startswith(("torch", "nvidia-", "triton"))} == {
        name: version for name, version in shared.items() if name.startswith(("torch", "nvidia-", "triton"))
    }


def test_every_image_has_a_dockerfile_and_a_size() -> None:
    assert set(DISK_GIB) == set(ALL_IMAGES)
    for name in ("operator", "agent", "trainer", "hack/engine"):
        assert (Path(REPOSITORY) / name / "Dockerfile").is_file()
