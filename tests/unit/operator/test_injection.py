"""Every kind of pod that the webhook changes, as files that one can read: what comes in, and what becomes of it.

`pytest tests/unit/operator --update-golden` writes them anew; the diff is then part of the review.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_api.delivery import Desired
from lora_operator.domain.injection import Injection, InjectionSettings, inject
from lora_operator.domain.reading import read_adapter
from lora_operator.domain.serving import stable_entries
from support.injection import DIGEST, adapter, labelled, patched

GOLDEN = Path(__file__).parents[2] / "golden" / "injection"
CASES = sorted(each.parent.name for each in GOLDEN.glob("*/pod.yaml"))
SETTINGS = InjectionSettings(agent_image="agent.example/agent:test")
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


def injection_of(pod: dict[str, Any], adapters: list[dict[str, Any]] | None = None) -> Injection:
    known = adapters or []
    names = [each["metadata"]["name"] for each in known]
    return inject(pod, known, stable_entries([read_adapter(each) for each in known], names), SETTINGS)


def read_case(case: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the pod of a case, and the LoRAAdapters of its namespace."""
    pod = yaml.safe_load((GOLDEN / case / "pod.yaml").read_text())
    file = GOLDEN / case / "adapters.yaml"
    return pod, list(yaml.safe_load_all(file.read_text())) if file.exists() else []


def result_of(case: str) -> dict[str, Any]:
    pod, adapters = read_case(case)
    return patched(pod, injection_of(pod, adapters).patch)


def agent_of(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = (each for each in pod["spec"]["initContainers"] if each["name"] == "lora-agent")
    return dict(found)


def env_of(container: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container.get("env", [])}


@pytest.mark.parametrize("case", CASES)
def test_what_becomes_of_a_pod(case: str, update_golden: bool) -> None:
    text = yaml.safe_dump(result_of(case), sort_keys=False, width=120)
    file = GOLDEN / case / "injected.yaml"
    if update_golden:
        file.write_text(text)
    assert text == file.read_text(), f"pytest tests/unit/operator --update-golden writes {file} anew"


def test_there_are_cases() -> None:
    assert {"vllm", "sglang", "lorax", "tgi", "nim", "shell-script", "everything"} <= set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_an_injected_pod_is_not_changed_again(case: str) -> None:
    pod, adapters = read_case(case)
    once = patched(pod, injection_of(pod, adapters).patch)
    assert injection_of(once, adapters).patch == []


@pytest.mark.parametrize("case", CASES)
def test_the_pod_that_came_in_is_left_as_it_is(case: str) -> None:
    pod, adapters = read_case(case)
    before = copy.deepcopy(pod)
    injection_of(pod, adapters)
    assert pod == before


@pytest.mark.parametrize("case", CASES)
def test_what_is_the_authors_stays(case: str) -> None:
    pod, _ = read_case(case)
    after = result_of(case)
    report = json.loads(after["metadata"]["annotations"]["lora-operator.io/injected"])
    for before, now in zip(pod["spec"]["containers"], after["spec"]["containers"], strict=True):
        if before["name"] != report["container"]:
            assert now == before
        for field in ("command", "args", "env", "volumeMounts"):
            kept = before.get(field, [])
            assert now.get(field, [])[: len(kept)] == kept, "what is added stands after it"
    untouched = {"containers", "initContainers", "volumes"}
    assert {k: v for k, v in after["spec"].items() if k not in untouched} == {
        k: v for k, v in pod["spec"].items() if k not in untouched
    }


@pytest.mark.parametrize("case", CASES)
def test_the_agent_is_locked_down_and_small(case: str) -> None:
    agent = agent_of(result_of(case))
    assert agent["restartPolicy"] == "Always"
    assert agent["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert agent["resources"] == {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}


@pytest.mark.parametrize("case", CASES)
def test_the_agent_gets_no_token_of_the_api_server(case: str) -> None:
    after = result_of(case)
    (mount,) = (each for each in agent_of(after)["volumeMounts"] if each["mountPath"] == TOKEN_PATH)
    (volume,) = (each for each in after["spec"]["volumes"] if each["name"] == mount["name"])
    assert set(volume) == {"name", "emptyDir"}


def test_a_pod_without_the_label_is_none_of_our_business() -> None:
    for labels in ({}, {"lora-operator.io/inject": "false"}, {"lora-operator.io/inject": "True"}):
        pod = labelled({"lora-operator.io/adapters": "../x"})
        pod["metadata"]["labels"] = labels
        assert injection_of(pod).patch == []


def test_the_users_own_word_on_what_is_desired_is_overwritten() -> None:
    pod = labelled({"lora-operator.io/desired": '{"adapters":[{"name":"stolen"}]}'})
    after = patched(pod, injection_of(pod).patch)
    assert json.loads(after["metadata"]["annotations"]["lora-operator.io/desired"]) == {}


def test_only_adapters_that_the_pod_names_are_desired() -> None:
    adapters = [adapter("support-bot"), adapter("others")]
    pod = labelled({})
    after = patched(pod, injection_of(pod, adapters).patch)
    desired = Desired.model_validate_json(after["metadata"]["annotations"]["lora-operator.io/desired"])
    assert [(each.name, each.digest) for each in desired.adapters] == [("support-bot", DIGEST)]


def test_what_another_webhook_gave_the_agent_stays_and_a_token_goes() -> None:
    """Clouds give pods an identity by a webhook of their own, the API server a token by its admission."""
    pod = labelled({})
    once = patched(pod, injection_of(pod).patch)
    agent = agent_of(once)
    identity = {"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::1:role/reader"}
    aws = {"name": "aws-iam-token", "mountPath": "/var/run/secrets/eks.amazonaws.com/serviceaccount", "readOnly": True}
    token = {"name": "kube-api-access-x", "mountPath": TOKEN_PATH, "readOnly": True}
    agent["env"].append(identity)
    agent["volumeMounts"] = [*(each for each in agent["volumeMounts"] if each["mountPath"] != TOKEN_PATH), token, aws]
    agent["image"] = "evil.example/agent"
    agent["securityContext"] = {"privileged": True}
    changed = copy.deepcopy(once) | {"spec": once["spec"] | {"initContainers": [agent]}}
    again = agent_of(patched(changed, injection_of(changed).patch))
    assert identity in again["env"]
    assert aws in again["volumeMounts"]
    assert [each["name"] for each in again["volumeMounts"] if each["mountPath"] == TOKEN_PATH] == ["lora-no-token"]
    assert again["image"] == SETTINGS.agent_image
    assert again["securityContext"]["runAsNonRoot"]


def test_an_engine_that_reads_by_name_waits_for_what_no_pod_has_served_yet() -> None:
    """Whoever had it served before is waited for anyway, and what was given up by all holds no new pod up."""
    after = result_of("tgi-first")
    (engine,) = after["spec"]["containers"]
    named = "newcomer-8b=/adapters/newcomer-8b,support-bot=/adapters/support-bot"
    assert env_of(engine)["LORA_ADAPTERS"] == named
    assert env_of(agent_of(after))["LORA_REQUIRED_ADAPTERS"] == "newcomer"
    assert [
        each["name"] for each in json.loads(after["metadata"]["annotations"]["lora-operator.io/desired"])["adapters"]
    ] == ["support-bot"]


@pytest.mark.parametrize(
    ("changes", "required"),
    [
        ({"inject-flags": "false"}, None),
        ({"required-adapters": "support-bot"}, "support-bot,newcomer"),
    ],
)
def test_what_the_author_says_of_an_engine_that_reads_by_name_counts(
    changes: dict[str, str], required: str | None
) -> None:
    pod, adapters = read_case("tgi-first")
    pod["metadata"]["annotations"] |= {f"lora-operator.io/{name}": value for name, value in changes.items()}
    after = patched(pod, injection_of(pod, adapters).patch)
    assert env_of(agent_of(after)).get("LORA_REQUIRED_ADAPTERS") == required


def test_a_list_of_the_authors_own_is_theirs_to_wait_for() -> None:
    pod, adapters = read_case("tgi-first")
    pod["spec"]["containers"][0]["env"] = [{"name": "LORA_ADAPTERS", "value": "mine=/models/mine"}]
    after = patched(pod, injection_of(pod, adapters).patch)
    assert after["spec"]["containers"][0]["env"] == pod["spec"]["containers"][0]["env"]
    assert "LORA_REQUIRED_ADAPTERS" not in env_of(agent_of(after))


def test_the_agent_starts_after_the_sidecars_that_give_the_pod_its_network() -> None:
    pod = labelled({})
    pod["spec"]["initContainers"] = [{"name": "istio-proxy", "image": "proxy", "restartPolicy": "Always"}]
    after = patched(pod, injection_of(pod).patch)
    assert [each["name"] for each in after["spec"]["initContainers"]] == ["istio-proxy", "lora-agent"]


def test_a_secret_that_is_needed_no_more_leaves_volume_and_mount() -> None:
    pod = labelled({"lora-operator.io/secrets": "old-keys"})
    once = patched(pod, injection_of(pod).patch)
    once["metadata"]["annotations"]["lora-operator.io/secrets"] = "new-keys"
    twice = patched(once, injection_of(once).patch)
    secrets = [each["secret"]["secretName"] for each in twice["spec"]["volumes"] if "secret" in each]
    mounts = [each["mountPath"] for each in agent_of(twice)["volumeMounts"]]
    assert secrets == ["new-keys"]
    assert [each for each in mounts if each.startswith("/etc/lora-secrets")] == ["/etc/lora-secrets/new-keys"]


def test_values_of_annotations_are_not_expanded_by_the_kubelet() -> None:
    pod = labelled({"lora-operator.io/base-model": "base-$(POD_UID)"})
    after = patched(pod, injection_of(pod).patch)
    assert env_of(agent_of(after))["LORA_BASE_MODEL"] == "base-$$(POD_UID)"


def test_no_key_of_the_engine_stands_in_an_annotation_or_a_note() -> None:
    pod = labelled({}, args=["--model=base", "--api-key", "very-secret"])
    injection = injection_of(pod)
    after = patched(pod, injection.patch)
    assert env_of(agent_of(after))["LORA_ENGINE_API_KEY"] == "very-secret"
    assert "very-secret" not in json.dumps(after["metadata"])
    assert "very-secret" not in repr(injection.notes)


SIZES = [("8Gi", 8 * 2**30), ("1.5Gi", 3 * 2**29), ("20M", 20_000_000), ("2048Ki", 2**21), ("5000k", 5_000_000)]


@pytest.mark.parametrize(("size", "count"), [*SIZES, (" 1T ", 10**12), ("1Pi", 2**50), ("2000000000m", 2_000_000)])
def test_the_agent_knows_the_size_of_its_volume_because_outgrowing_it_ends_the_pod(size: str, count: int) -> None:
    pod = labelled({"lora-operator.io/store-size": size})
    after = patched(pod, injection_of(pod).patch)
    (volume,) = (each for each in after["spec"]["volumes"] if each["name"] == "lora-adapters")
    assert volume["emptyDir"] == {"sizeLimit": size.strip()}
    assert env_of(agent_of(after))["LORA_AGENT_STORE_BYTES"] == str(count)
