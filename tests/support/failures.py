"""What the tests of failures share: Jobs with pods, specs, and a look at the words of a failure."""

from dataclasses import replace
from typing import Any

from lora_api.lorajob import LoRAJobSpec
from lora_api.lorajob_status import Failure
from lora_operator.domain.observed import Child, Ownership, PodView, WorkView
from support.samples import lorajob_spec

ANEW = "set the annotation lora-operator.io/restart of the LoRAJob to a new value"
GOES_ON = "the run goes on by itself from its last checkpoint"
BY_ITSELF = "the job goes on by itself"


def spec(**changes: Any) -> LoRAJobSpec:
    """Return the smallest spec, with top-level fields replaced."""
    return LoRAJobSpec.model_validate(lorajob_spec(**changes))


def job(*pods: PodView, stage: str = "train", **state: Any) -> WorkView:
    """Return a Job of ours with its pods."""
    child = Child("Job", f"support-bot-1-{stage}", Ownership.OURS)
    return WorkView(child=child, pods=pods, **state)


def of_index(index: int, pod: PodView) -> PodView:
    """Return a pod as one of several that train together."""
    return replace(pod, index=index, name=f"pod-{index}")


def assert_words(failure: Failure, message: list[str], hint: list[str]) -> None:
    """Check what a failure says happened, and what it says is to be changed."""
    for words in message:
        assert words in failure.message
    for words in hint:
        assert words in failure.hint
