"""What most tests of the delivery begin with, and short ways to look at the result."""

import itertools
from typing import Any

from support.serving.adapters import Published, adapter_files, publish, truncate
from support.serving.kubelet import Pod
from support.serving.world import ServingWorld

BOT = "support-bot"
ENGINE_RETURN_SECONDS = 5.0
"""From the return of an engine until it serves again, as promised."""
_seeds = itertools.count(1)


def version(world: ServingWorld, **changes: Any) -> Published:
    """Return a good version with bytes of its own."""
    return publish(world.s3, world.bucket, adapter_files(next(_seeds), **changes))


def by_hand(world: ServingWorld) -> Published:
    """Put an adapter without a manifest into always the same folder."""
    return publish(world.s3, world.bucket, adapter_files(next(_seeds)), manifest=False, folder="by-hand")


def of_another_base(world: ServingWorld) -> Published:
    """Return a version that was trained on another base model than the engines have."""
    return publish(world.s3, world.bucket, adapter_files(next(_seeds)), base="owner/other")


def truncated(world: ServingWorld) -> Published:
    """Return a version whose weights are cut in S3."""
    found = version(world)
    truncate(world.s3, found)
    return found


def not_there(world: ServingWorld) -> Published:
    """Return a version that nobody has published."""
    return Published(f"s3://{world.bucket}/nowhere", f"sha256:{'1' * 64}", "")


def serve(world: ServingWorld, count: int, **spec: Any) -> tuple[list[Pod], Published]:
    """Return some pods that all serve a first version, and that version."""
    first = version(world)
    world.add_adapter(BOT, first, **spec)
    pods = world.add_pods(count, BOT)
    world.wait_until_served(pods, BOT, first)
    world.wait_until_ready(BOT, first)
    return pods, first


def all_serve(pods: list[Pod], wanted: Published) -> bool:
    """Return whether all engines answer with a version, and with nothing else."""
    return all(each.engine.serves() == {BOT: wanted.weights} for each in pods)


def versions(world: ServingWorld) -> dict[str, str]:
    """Return the state of each version that is remembered, by digest."""
    return {each["digest"]: each["state"] for each in world.status(BOT)["versions"]}


def reasons(world: ServingWorld) -> list[str]:
    """Return the reasons of all events in the namespace."""
    return [each["reason"] for each in world.objects.list("Event")]


def is_deleted(world: ServingWorld) -> bool:
    """Return whether the LoRAAdapter is gone."""
    return world.objects.get("LoRAAdapter", BOT) is None
