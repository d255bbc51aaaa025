"""How Argo CD sees our kinds: the shipped Lua, run by a real Lua 5.1 on objects as the operator leaves them.

Argo CD gives a script base, `table`, and of `os` only `time` and `date`; everything else is taken away here too.
"""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lupa.lua51
import pytest
import yaml

from generate.argocd import KINDS, SCRIPTS, argocd_config
from lora_api.conditions import Condition
from lora_api.loraadapter import LoRAAdapterStatus
from lora_api.reasons import ConditionType, Reason
from lora_operator.domain.observed import Stage
from support.injection import adapter
from support.world import START, World, accepted, ended, preflight_passed, succeeded, training, waiting

ROOT = Path(__file__).resolve().parents[3]
NOT_GIVEN = ("string", "math", "io", "debug", "coroutine", "utf8", "python", "dofile", "loadfile")
CONFIG = yaml.safe_load(argocd_config(ROOT))["data"]

Object = dict[str, Any]


def run(script: str, document: Object) -> Any:
    """Return what a script returns for an object, as plain values."""
    lua = lupa.lua51.LuaRuntime(unpack_returned_tuples=True)
    lua.execute("local date, time = os.date, os.time; os = {date = date, time = time}; package.loaded.os = os")
    for name in NOT_GIVEN:
        lua.globals()[name] = None
    lua.globals().obj = lua.table_from(document, recursive=True)
    return plain(lua.execute(script))


def plain(value: Any) -> Any:
    """Return a Lua value as Python has it; a table of 1, 2, … is a list."""
    if lupa.lua51.lua_type(value) != "table":
        return value
    members = {key: plain(each) for key, each in value.items()}
    return list(members.values()) if members and list(members) == list(range(1, len(members) + 1)) else members


def health(kind: str, document: Object) -> tuple[str, str]:
    found = run(CONFIG[f"resource.customizations.health.lora-operator.io_{kind}"], document)
    return found["status"], found["message"]


def actions(kind: str) -> Object:
    found: Object = yaml.safe_load(CONFIG[f"resource.customizations.actions.lora-operator.io_{kind}"])
    return found


def enabled(kind: str, document: Object) -> set[str]:
    """Return the actions that a user can choose for an object."""
    offered = run(actions(kind)["discovery.lua"], document)
    assert set(offered) == {each["name"] for each in actions(kind)["definitions"]}
    assert all(each["displayName"] and each["iconClass"] for each in offered.values())
    return {name for name, each in offered.items() if not each.get("disabled")}


def act(kind: str, action: str, document: Object) -> Object:
    """Return the object as an action leaves it."""
    (script,) = (each["action.lua"] for each in actions(kind)["definitions"] if each["name"] == action)
    before = copy.deepcopy(document)
    after: Object = run(script, document)
    assert document == before
    return after


def document_of(world: World, *, generation: int | None = None) -> Object:
    metadata = {"name": "support-bot", "generation": world.job.generation if generation is None else generation}
    spec = world.job.spec
    assert spec is not None
    return {"metadata": metadata, "spec": {"suspend": spec.suspend}, "status": world.job.status.wire()}


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
def test_health_of_a_job(state: Callable[[], World], expected: str) -> None:
    found, message = health("LoRAJob", document_of(state()))
    assert found == expected
    assert message


def test_a_failed_job_says_why_and_what_to_do() -> None:
    world = failed()
    condition = world.condition(ConditionType.FAILED)
    assert condition is not None
    assert health("LoRAJob", document_of(world)) == ("Degraded", condition.message)


@pytest.mark.parametrize("kind", KINDS)
def test_a_spec_that_was_not_seen_yet_is_progressing_whatever_the_last_one_did(kind: str) -> None:
    document = document_of(failed(), generation=99) if kind == "LoRAJob" else served(generation=99)
    assert health(kind, document) == ("Progressing", "The operator has not seen this spec yet")


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_without_a_status_is_progressing(kind: str) -> None:
    assert health(kind, {"metadata": {"generation": 1}, "spec": {}})[0] == "Progressing"


def adapter_with(*conditions: tuple[ConditionType, str, Reason, str], generation: int = 1) -> Object:
    """Return a LoRAAdapter with conditions of generation 1."""
    made = [
        Condition(
            type=kind,
            status=status,  # type: ignore[arg-type]
            observed_generation=1,
            last_transition_time=START,
            reason=reason,
            message=message,
        )
        for kind, status, reason, message in conditions
    ]
    status = LoRAAdapterStatus(observed_generation=1, conditions=made).wire()
    document = adapter("support-bot")
    return document | {"metadata": document["metadata"] | {"generation": generation}, "status": status}


def served(generation: int = 1) -> Object:
    return adapter_with(
        (ConditionType.PROGRESSING, "False", Reason.ROLLED_OUT, "went to all pods"),
        (ConditionType.DEGRADED, "False", Reason.SERVED, ""),
        (ConditionType.READY, "True", Reason.SERVED, "served by 3 of 3 pods"),
        generation=generation,
    )


NOBODY = adapter_with(
    (ConditionType.PROGRESSING, "False", Reason.NO_PODS, "No pod asks for the adapter"),
    (ConditionType.DEGRADED, "False", Reason.NO_PODS, ""),
    (ConditionType.READY, "Unknown", Reason.NO_PODS, "No pod asks for the adapter"),
)
TRIED = adapter_with(
    (ConditionType.PROGRESSING, "True", Reason.CANARY, "abc is tried in pod vllm-1"),
    (ConditionType.DEGRADED, "False", Reason.SERVED, ""),
    (ConditionType.READY, "False", Reason.LOADING, "abc is served by 0 of 3 pods"),
)
GIVEN_UP = adapter_with(
    (ConditionType.PROGRESSING, "False", Reason.ROLLED_BACK, "abc was given up"),
    (ConditionType.DEGRADED, "True", Reason.NO_EFFECT, "abc is not served: no effect; def is still served"),
    (ConditionType.READY, "False", Reason.ROLLED_BACK, "abc was given up"),
)
ONE_POD_SILENT = adapter_with(
    (ConditionType.DEGRADED, "True", Reason.POD_UNREACHABLE, "no answer from the agent in: vllm-2"),
    (ConditionType.READY, "True", Reason.SERVED, "served by 3 of 3 pods"),
)
UNKNOWN = adapter_with((ConditionType.READY, "Unknown", Reason.NOT_KNOWN_YET, "not known yet"))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (served(), ("Healthy", "served by 3 of 3 pods")),
        (NOBODY, ("Healthy", "No pod asks for the adapter")),
        (TRIED, ("Progressing", "abc is tried in pod vllm-1")),
        (GIVEN_UP, ("Degraded", "abc is not served: no effect; def is still served")),
        (ONE_POD_SILENT, ("Degraded", "no answer from the agent in: vllm-2")),
        (UNKNOWN, ("Progressing", "not known yet")),
    ],
    ids=["served", "nobody asks", "tried", "given up", "one pod silent", "unknown"],
)
def test_health_of_an_adapter(document: Object, expected: tuple[str, str]) -> None:
    assert health("LoRAAdapter", document) == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (accepted, {"suspend", "restart"}),
        (training, {"suspend", "restart"}),
        (suspended, {"resume", "restart"}),
        (failed, {"suspend", "restart"}),
        (succeeded, {"restart"}),
    ],
)
def test_what_can_be_done_with_a_job(state: Callable[[], World], expected: set[str]) -> None:
    assert enabled("LoRAJob", document_of(state())) == expected


def test_suspend_and_resume_change_one_field() -> None:
    document = {"metadata": {"name": "a"}, "spec": {"task": "CausalLM"}}
    stopped = act("LoRAJob", "suspend", document)
    assert stopped == {"metadata": {"name": "a"}, "spec": {"task": "CausalLM", "suspend": True}}
    assert act("LoRAJob", "resume", stopped)["spec"] == {"task": "CausalLM", "suspend": False}


def test_restart_sets_the_annotation_and_keeps_the_others() -> None:
    document = {"metadata": {"name": "a", "annotations": {"team": "tea"}}, "spec": {"task": "CausalLM"}}
    annotations = act("LoRAJob", "restart", document)["metadata"]["annotations"]
    assert annotations["team"] == "tea"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", annotations["lora-operator.io/restart"])
    assert act("LoRAJob", "restart", {"metadata": {}, "spec": {}})["metadata"]["annotations"].keys() == {
        "lora-operator.io/restart"
    }


def test_unpin_is_offered_for_a_pinned_adapter_alone_and_takes_the_pin_away() -> None:
    pinned = {"metadata": {}, "spec": {"servedName": "a", "versions": {"pin": "sha256:" + "a" * 64}}}
    assert enabled("LoRAAdapter", pinned) == {"unpin"}
    assert enabled("LoRAAdapter", {"metadata": {}, "spec": {}}) == set()
    assert act("LoRAAdapter", "unpin", pinned)["spec"] == {"servedName": "a"}, "an empty table would become a list"
    pinned["spec"]["versions"]["historyLimit"] = 9
    assert act("LoRAAdapter", "unpin", pinned)["spec"]["versions"] == {"historyLimit": 9}


@pytest.mark.parametrize("kind", KINDS)
def test_the_folders_are_those_of_argo_cds_own_customizations(kind: str) -> None:
    folder = ROOT / SCRIPTS / kind
    assert (folder / "health.lua").read_text() == CONFIG[f"resource.customizations.health.lora-operator.io_{kind}"]
    scripts = {path.parent.name: path.read_text() for path in folder.glob("actions/*/action.lua")}
    assert scripts == {each["name"]: each["action.lua"] for each in actions(kind)["definitions"]}
    assert (folder / "actions" / "discovery.lua").read_text() == actions(kind)["discovery.lua"]


def test_the_certificate_of_the_webhook_is_no_drift() -> None:
    ignored = CONFIG[
        "resource.customizations.ignoreDifferences.admissionregistration.k8s.io_MutatingWebhookConfiguration"
    ]
    assert yaml.safe_load(ignored) == {"jqPathExpressions": [".webhooks[]?.clientConfig.caBundle"]}
