"""`why` of a LoRAAdapter: what is seen, and the sentence that it comes to."""

from typing import Any

import pytest

from lora_cli.explain.adapter import decide, explain_adapter
from lora_cli.explain.snapshot import Snapshot, Standing
from lora_cli.render.why import why_lines
from unit.cli.golden_text import assert_golden
from unit.cli.objects import adapter, at, condition, serving_pod, snapshot

DONE, _, WAITING, TROUBLE = Standing
REFUSAL = "vLLM: LoRA rank 64 is greater than max_lora_rank 16"
READY = condition("Ready", reason="Served")
ASKS = {"lora-operator.io/adapters": "other, support-bot"}
LONELY = {"desiredPods": 0, "readyPods": 0}


def inference_pod(**labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "vllm-0", "namespace": "team-a", "labels": labels, "annotations": ASKS}}


def degraded(reason: str, message: str, progressing: str = "RollingOut") -> dict[str, Any]:
    told = [condition("Degraded", reason=reason, message=message), condition("Progressing", "False", progressing)]
    return adapter(*told, desiredPods=2, pods=[serving_pod("Failed", reason, REFUSAL)])


@pytest.mark.parametrize(
    ("seen", "standing", "reason", "words"),
    [
        (snapshot(adapter(generation=2)), TROUBLE, "OperatorSilent", "so it does not seem to run"),
        (snapshot(adapter(**LONELY)), WAITING, "NoPods", "no pod asks for it"),
        (
            snapshot(adapter(**LONELY), inference_pod()),
            TROUBLE,
            "NoPods",
            "pod vllm-0 names it in its annotation, but lacks the label lora-operator.io/inject",
        ),
        (
            snapshot(adapter(pods=[serving_pod("NotInjected")], desiredPods=1)),
            TROUBLE,
            "NotInjected",
            "Pod vllm-0: it has no agent",
        ),
        (
            snapshot(adapter(pods=[serving_pod("Unreachable", message="no route to host")], desiredPods=1)),
            TROUBLE,
            "PodUnreachable",
            "Pod vllm-0: no route to host",
        ),
        (
            snapshot(adapter(pods=[serving_pod("Failed", "EngineRefused", REFUSAL)], desiredPods=1)),
            TROUBLE,
            "EngineRefused",
            f"Pod vllm-0 (vllm): {REFUSAL}",
        ),
        (
            snapshot(degraded("EngineRefused", "abab is not served", "RolledBack")),
            TROUBLE,
            "EngineRefused",
            f"The new version was rolled back: abab is not served: {REFUSAL}",
        ),
        (snapshot(degraded("RolloutTimeout", "no progress for 600 s")), TROUBLE, "RolloutTimeout", "for 600 s"),
        (
            snapshot(adapter(READY, desiredPods=2, servedPods="2/2")),
            DONE,
            "Served",
            "Version abababababab is served by 2/2 pods",
        ),
        (
            snapshot(adapter(condition("Progressing", reason="Canary", message="tried in vllm-0"), desiredPods=2)),
            WAITING,
            "Canary",
            "on its way: tried in vllm-0",
        ),
        (snapshot(adapter(desiredPods=1)), WAITING, "NotKnownYet", "no pod has told of it yet"),
    ],
)
def test_the_sentence(seen: Snapshot, standing: Standing, reason: str, words: str) -> None:
    verdict = decide(seen)
    assert (verdict.standing, verdict.reason) == (standing, reason)
    assert words in verdict.sentence
    assert verdict.hint or standing == DONE


def test_one_that_is_being_deleted_waits_for_its_pods() -> None:
    document = adapter(READY)
    document["metadata"]["deletionTimestamp"] = at(1)
    assert decide(snapshot(document)).reason == "Unloading"


def test_pods_stand_before_the_sentence() -> None:
    assert_golden("why-adapter", why_lines(explain_adapter(snapshot(degraded("EngineRefused", "it", "RolledBack")))))
