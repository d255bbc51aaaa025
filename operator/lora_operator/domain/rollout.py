"""How a new version reaches the pods: one first, then some at a time, and back if it is not good. Pure.

Every pod checks a version under a name of its own before it answers to anybody, and says what it found. So going on is
safe when the pods that have it serve it, and going back costs nothing: the version before is still on their disks.
A version is given up only when a pod has given it up. Trouble that may pass, such as storage that is away, is waited
for, however long it takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lora_api.loraadapter import Rollout, RolloutStage, RolloutStatus
from lora_operator.domain.adapter_pods import ServingPod
from lora_operator.domain.adapter_versions import Version


@dataclass(frozen=True, slots=True)
class Move:
    """Where a rollout stands after one look, and which pods get which version."""

    rollout: RolloutStatus | None
    wanted: Version
    """With its digest, if the first pod has found it out."""
    moved: frozenset[str]
    """Uids of the pods that get the wanted version; the others get the one that is served so far."""


def roll(
    last: RolloutStatus | None,
    wanted: Version,
    served: Version | None,
    pods: Sequence[ServingPod],
    rules: Rollout,
    generation: int,
    now: datetime,
) -> Move:
    """Return the next move. `pods` are the live ones, in an order that does not change."""
    everybody = frozenset(each.pod.uid for each in pods)
    if served is not None and wanted.digest and served.digest == wanted.digest:
        return Move(_done(last, wanted, generation, now), wanted, everybody)
    if not pods:
        return Move(_kept(last, wanted, generation), wanted, frozenset())
    state = _current(last, wanted, pods, rules, generation, now)
    if state.stage == RolloutStage.FAILED:
        return Move(state, wanted, frozenset())
    return (
        _canary(state, wanted, pods, rules, now)
        if state.stage == RolloutStage.CANARY
        else _rolling(state, wanted, pods, rules, now)
    )


def _current(
    last: RolloutStatus | None,
    wanted: Version,
    pods: Sequence[ServingPod],
    rules: Rollout,
    generation: int,
    now: datetime,
) -> RolloutStatus:
    """Return the rollout that is under way, or a new one."""
    kept = _kept(last, wanted, generation)
    if kept is None or kept.stage == RolloutStage.DONE or _worth_another_try(kept, pods, generation):
        return _begin(wanted, pods, rules, generation, now)
    return kept


def _kept(last: RolloutStatus | None, wanted: Version, generation: int) -> RolloutStatus | None:
    """Return the last rollout if it is one of the wanted version."""
    if last is None or last.digest != wanted.digest or (not wanted.digest and last.generation != generation):
        return None
    return last if last.stage == RolloutStage.FAILED else last.model_copy(update={"generation": generation})


def _worth_another_try(rollout: RolloutStatus, pods: Sequence[ServingPod], generation: int) -> bool:
    """Return whether a failed rollout begins again: the spec was changed, or the pod where it failed was replaced."""
    if rollout.stage != RolloutStage.FAILED:
        return False
    return rollout.generation != generation or all(each.pod.name != rollout.canary for each in pods)


def _begin(
    wanted: Version, pods: Sequence[ServingPod], rules: Rollout, generation: int, now: datetime
) -> RolloutStatus:
    # Without a digest one pod finds it out for all, however many there are by then.
    is_tried = not wanted.digest or (rules.canary and len(pods) > 1)
    first = RolloutStage.CANARY if is_tried else RolloutStage.ROLLING
    return RolloutStatus(digest=wanted.digest, generation=generation, stage=first, started_time=now, progress_time=now)


def _done(last: RolloutStatus | None, wanted: Version, generation: int, now: datetime) -> RolloutStatus | None:
    """Return the rollout of a version that is served: the one that brought it, or one that had nothing to do."""
    if last is None:
        return None
    if last.digest == wanted.digest and last.stage == RolloutStage.DONE:
        return last
    return RolloutStatus(
        digest=wanted.digest, generation=generation, stage=RolloutStage.DONE, started_time=now, progress_time=now
    )


def _canary(state: RolloutStatus, wanted: Version, pods: Sequence[ServingPod], rules: Rollout, now: datetime) -> Move:
    """Try the version in one pod."""
    chosen = _choose(state.canary, pods)
    state = state.model_copy(update={"canary": chosen.pod.name})
    if chosen.refuses:
        return Move(state.model_copy(update={"stage": RolloutStage.FAILED}), wanted, frozenset())
    found = wanted.digest or _found_digest(chosen)
    if not found or not chosen.caught_up or not chosen.has(found):
        return Move(state, wanted, frozenset({chosen.pod.uid}))
    update = {"stage": RolloutStage.ROLLING, "digest": found}
    state = state.model_copy(update=update | {"progress_time": now})
    return _rolling(state, replace(wanted, digest=found), pods, rules, now)


def _choose(name: str, pods: Sequence[ServingPod]) -> ServingPod:
    """Return the pod of the name as long as it counts, else the first that counts, else the first."""
    same = next((each for each in pods if each.pod.name == name), None)
    if same is not None and same.counts:
        return same
    return next((each for each in pods if each.counts), same or pods[0])


def _found_digest(pod: ServingPod) -> str:
    """Return the digest that a pod found in a source without one, once the engine serves it."""
    return pod.served_digest if pod.said and pod.said.digest == pod.served_digest else ""


def _rolling(state: RolloutStatus, wanted: Version, pods: Sequence[ServingPod], rules: Rollout, now: datetime) -> Move:
    """Move some pods at a time."""
    moved = [each for each in pods if _told(each, wanted)]
    if failed := next((each for each in moved if each.refuses), None):
        update = {"stage": RolloutStage.FAILED, "canary": failed.pod.name}
        return Move(state.model_copy(update=update), wanted, frozenset())
    serving = [each for each in moved if each.has(wanted.digest)]
    if serving and all(each.has(wanted.digest) for each in pods if each.counts):
        done = state.model_copy(update={"stage": RolloutStage.DONE, "progress_time": now})
        return Move(done, wanted, frozenset(each.pod.uid for each in pods))
    busy = sum(1 for each in moved if each.counts and not each.has(wanted.digest))
    room = max(0, max(1, len(pods) * rules.step_percent // 100) - busy)
    others = [each for each in pods if each not in moved]
    following = sorted(others, key=lambda each: not each.counts)[:room]
    if following:
        state = state.model_copy(update={"progress_time": now})
    return Move(state, wanted, frozenset(each.pod.uid for each in [*moved, *following]))


def _told(pod: ServingPod, wanted: Version) -> bool:
    """Return whether a pod was told to serve the version. The first pod of a source without a digest knows its URI."""
    if pod.told is None:
        return False
    if pod.told.digest is None:
        return pod.told.uri == wanted.source.uri and pod.told.revision == wanted.source.revision
    return pod.told.digest == wanted.digest
