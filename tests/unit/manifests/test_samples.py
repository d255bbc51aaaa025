"""The samples: one for each task, and serving samples whose pods the webhook completes without a word of complaint."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_api.delivery import Desired
from lora_api.loraadapter import LoRAAdapterSpec
from lora_api.lorajob import LoRAJobSpec
from lora_api.training import Objective, Task
from lora_operator.domain.injection import InjectionSettings, inject, is_wanted, named_adapters
from support.injection import patched

SAMPLES = Path(__file__).resolve().parents[3] / "manifests" / "samples"
SERVING = sorted((SAMPLES / "serving").glob("*.yaml"))
SPECS = {"LoRAJob": LoRAJobSpec, "LoRAAdapter": LoRAAdapterSpec}
ENGINES = {
    "vllm-gpu": "vllm",
    "vllm-cpu": "vllm",
    "several-adapters": "vllm",
    "sglang": "sglang",
    "tgi": "static",
    "nim": "dirwatch",
    "lorax": "lorax",
}

Object = dict[str, Any]


def documents(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text()))


def pods(path: Path) -> list[Object]:
    """Return the pods of the Deployments of a sample."""
    return [each["spec"]["template"] for each in documents(path) if each["kind"] == "Deployment"]


JOBS = [each for path in sorted(SAMPLES.glob("*.yaml")) for each in documents(path)]
ADAPTERS = [each for path in SERVING for each in documents(path) if each["kind"] == "LoRAAdapter"]


def test_every_task_and_objective_has_a_sample() -> None:
    specs = [LoRAJobSpec.model_validate(each["spec"]) for each in JOBS]
    assert {each.task for each in specs} == set(Task)
    assert {each.objective for each in specs} == set(Objective)


@pytest.mark.parametrize("path", SERVING, ids=lambda path: path.stem)
def test_our_kinds_in_a_serving_sample_are_valid(path: Path) -> None:
    for each in documents(path):
        if each["kind"] in SPECS:
            SPECS[each["kind"]].model_validate(each["spec"])


def test_adapters_come_from_both_places_that_the_api_knows() -> None:
    assert {each["spec"]["source"]["uri"].split(":")[0] for each in ADAPTERS} == {"hf", "s3"}


@pytest.mark.parametrize(("name", "engine"), ENGINES.items())
def test_the_pods_of_a_sample_are_completed(name: str, engine: str) -> None:
    (pod,) = pods(SAMPLES / "serving" / f"{name}.yaml")
    assert is_wanted(pod)
    adapters = [each | {"metadata": each["metadata"] | {"namespace": "team-a", "uid": "u"}} for each in ADAPTERS]
    done = inject(pod, adapters, Desired(), InjectionSettings(agent_image="agent:test"))
    assert done.notes == (), "nothing is left for the author to do"
    changed = patched(pod, done.patch)
    agent = next(each for each in changed["spec"]["initContainers"] if each["name"] == "lora-agent")
    assert {"name": "LORA_ENGINE", "value": engine} in agent["env"]


def test_there_is_a_sample_of_every_engine() -> None:
    assert {path.stem for path in SERVING if pods(path)} == set(ENGINES)


def test_a_sample_asks_for_adapters_that_another_sample_makes() -> None:
    """But for one, which shows that a pod may ask for an adapter that comes later."""
    made = {each["metadata"]["name"] for each in (*JOBS, *ADAPTERS)}
    asked = set(itertools.chain.from_iterable(named_adapters(pod) for path in SERVING for pod in pods(path)))
    assert asked - made == {"translations"}


def test_the_secrets_of_a_sample_reach_the_agent() -> None:
    (pod,) = pods(SAMPLES / "serving" / "several-adapters.yaml")
    changed = patched(pod, inject(pod, [], Desired(), InjectionSettings(agent_image="agent:test")).patch)
    (agent,) = changed["spec"]["initContainers"]
    assert "/etc/lora-secrets/s3-credentials" in [each["mountPath"] for each in agent["volumeMounts"]]
