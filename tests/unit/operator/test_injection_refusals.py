"""What the webhook refuses: each with a sentence that names where it stands, what stands there, and what to write."""

from typing import Any

import pytest

from lora_api.delivery import Desired, DesiredAdapter
from lora_api.loraadapter import BaseModelReference
from lora_operator.domain.engines import InjectionRefusedError
from lora_operator.domain.injection import InjectionSettings, inject
from support.injection import labelled

SETTINGS = InjectionSettings(agent_image="agent.example/agent:test")
ADAPTERS = "lora-operator.io/adapters"

BAD_NAMES = [
    "team-b/support-bot",
    "../support-bot",
    "a..b",
    "..",
    "support-bot:v2",
    "Support-Bot",
    "support bot",
    "support-bot,-x",
    "a" * 64,
    "s3://models/x",
    "$(NAME)",
    "a\nb",
]


def refusal(pod: dict[str, Any], desired: Desired | None = None) -> str:
    with pytest.raises(InjectionRefusedError) as caught:
        inject(pod, [], desired or Desired(), SETTINGS)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("value", BAD_NAMES)
def test_only_names_of_the_own_namespace_are_taken(value: str) -> None:
    text = refusal(labelled({ADAPTERS: value}))
    assert text.startswith(f"annotation {ADAPTERS}: ")
    assert "is no name: write names of LoRAAdapters of the pod's own namespace, with commas" in text
    shown = value.rpartition(",")[2][:63].encode("unicode_escape").decode()
    assert f": '{shown}" in text


@pytest.mark.parametrize("value", [None, "", " , "])
def test_a_label_without_names_is_refused_with_an_example(value: str | None) -> None:
    pod = labelled({ADAPTERS: value or ""})
    if value is None:
        del pod["metadata"]["annotations"]
    assert "is missing or empty: write the names of LoRAAdapters of this namespace, such as support-bot" in refusal(pod)


ANNOTATIONS = [
    ("engine", "triton", "'triton' is no known engine: write one of vllm, sglang, lorax, dirwatch, static"),
    ("container", "vllm", "the pod has no container 'vllm': write one of engine"),
    ("port", "http", "'http' is no port: write a number from 1 to 65535"),
    ("port", "0", "'0' is no port"),
    ("port", "65536", "'65536' is no port"),
    ("port", "9401", "the engine's port 9401 is that of the agent"),
    ("store-size", "much", "'much' is no size for adapters: write one such as 8Gi"),
    ("store-size", "8", "'8' is no size for adapters"),
    ("store-size", "8Gi\n8Gi", "is no size for adapters"),
    ("inject-flags", "no", "'no': write true or false"),
    ("required-adapters", "other", "'other' is not in annotation lora-operator.io/adapters"),
    ("secrets", "team-b/keys", "'team-b/keys' is no name: write names of Secrets of the pod's own namespace"),
    ("secrets", "../x", "'../x' is no name"),
]


@pytest.mark.parametrize(("name", "value", "words"), ANNOTATIONS, ids=[f"{each[0]}={each[1]}" for each in ANNOTATIONS])
def test_every_annotation_is_checked(name: str, value: str, words: str) -> None:
    text = refusal(labelled({f"lora-operator.io/{name}": value}))
    assert f"lora-operator.io/{name}" in text
    assert words in text


def test_too_many_names_are_refused() -> None:
    text = refusal(labelled({ADAPTERS: ",".join(f"a{number}" for number in range(257))}))
    assert "257 names are too many: write at most 256" in text


def test_more_than_an_annotation_can_carry_is_refused() -> None:
    names = [f"a{number}" for number in range(200)]
    base = BaseModelReference(name="b" * 1000)
    entries = [
        DesiredAdapter(name=each, served_name=each, uri=f"s3://bucket/{each}", base_model=base) for each in names
    ]
    text = refusal(labelled({ADAPTERS: ",".join(names)}), Desired(adapters=entries))
    assert "name fewer adapters" in text


def test_an_engine_that_nobody_knows_must_be_named() -> None:
    text = refusal(labelled({}, image="registry.example/triton:1", args=[]))
    assert "annotation lora-operator.io/engine is missing" in text
    assert "'registry.example/triton:1' of container 'engine' is of no known engine" in text


def test_of_two_engines_one_must_be_named() -> None:
    pod = labelled({})
    pod["spec"]["containers"].append({"name": "draft", "image": "vllm/vllm-openai"})
    text = refusal(pod)
    assert "the containers engine, draft all look like engines: write the name of one of them" in text


CONFLICTS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("mount", {}, {"volumeMounts": [{"name": "own", "mountPath": "/adapters/"}]}, "mounts volume 'own' at /adapters"),
    ("below", {}, {"volumeMounts": [{"name": "own", "mountPath": "/adapters/x"}]}, "mount yours elsewhere"),
    (
        "writable",
        {},
        {"volumeMounts": [{"name": "lora-adapters", "mountPath": "/adapters"}]},
        "in another way than at /adapters and read-only",
    ),
    (
        "volume",
        {"volumes": [{"name": "lora-adapters", "hostPath": {"path": "/"}}]},
        {},
        "volume lora-adapters: this name",
    ),
]


@pytest.mark.parametrize(("name", "spec", "container", "words"), CONFLICTS, ids=[each[0] for each in CONFLICTS])
def test_what_the_webhook_adds_must_not_be_there_in_another_way(
    name: str, spec: dict[str, Any], container: dict[str, Any], words: str
) -> None:
    pod = labelled({}, **container)
    pod["spec"] |= spec
    assert words in refusal(pod), name


def test_a_container_with_the_agents_name_is_refused() -> None:
    pod = labelled({})
    pod["spec"]["containers"].append({"name": "lora-agent", "image": "nginx"})
    assert "container lora-agent: this name is that of the agent" in refusal(pod)
