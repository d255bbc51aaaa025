"""Why a LoRAAdapter is as it is: one decision over a snapshot, the first rule that holds answers."""

from collections.abc import Callable

from lora_api.conditions import find_condition, is_true
from lora_api.delivery import AdapterState
from lora_api.loraadapter import LoRAAdapterStatus, PodAdapterState
from lora_api.names import ADAPTERS_ANNOTATION, INJECT_LABEL
from lora_api.reasons import ConditionType, Reason
from lora_cli.explain.operator import not_seen
from lora_cli.explain.reading import adapter_status, event_line
from lora_cli.explain.snapshot import Explanation, Snapshot, Standing, Verdict

_SHOWN = 8
_HINTS: dict[str, str] = {
    Reason.PIN_NOT_FOUND: "pin a digest of status.versions, or set spec.source to it",
    Reason.NOT_INJECTED: "see that the operator runs, then restart the pod: the webhook sees it when it is made",
    Reason.ENGINE_FLAGS_MISSING: "add the flags that the message names to the engine's container",
    Reason.POD_UNREACHABLE: "look at the pod, and at NetworkPolicies: the operator must reach its port 9401",
    Reason.DIGEST_MISMATCH: "publish the adapter again; nothing of these files was loaded",
    Reason.NOT_AN_ADAPTER: "correct spec.source.uri: it must hold adapter_config.json and adapter_model.safetensors",
    Reason.INCOMPATIBLE: "use an engine with the adapter's base model and a rank limit that fits, or train anew for it",
    Reason.ENGINE_REFUSED: "change what the engine's words name: its flags, or the LoRA settings of the job",
    Reason.ENGINE_UNREACHABLE: "look at the engine's log; it may only be starting",
    Reason.NO_EFFECT: "see whether the adapter belongs to this base model",
    Reason.SAMPLES_DIFFER: "compare base model, revision and engine; spec.verify.samples: Warn serves it anyway",
    Reason.ROLLOUT_TIMEOUT: "read the log of the container lora-agent in the pod that the message names",
    Reason.NO_PERMISSION: "check spec.source.storage.credentialsSecretRef, or the rights of the pods' identity",
    Reason.INPUT_NOT_FOUND: "check spec.source.uri: the folder must exist",
    Reason.SERVICE_UNAVAILABLE: "see that the pods reach spec.source.storage.endpoint",
    Reason.DISK_FULL: "give the pods more room by the annotation lora-operator.io/store-size",
}
_OTHERWISE = "publish a corrected version, or pin an earlier one in spec.versions.pin"


def explain_adapter(snapshot: Snapshot) -> Explanation:
    """Return why the LoRAAdapter is as it is."""
    meta, status = snapshot.document["metadata"], adapter_status(snapshot.document)
    return Explanation(
        name=f"LoRAAdapter {meta['namespace']}/{meta['name']}",
        verdict=decide(snapshot),
        conditions=tuple(status.conditions),
        works=tuple(_pod_line(each) for each in status.pods[:_SHOWN]),
        events=tuple(event_line(each) for each in snapshot.events[-_SHOWN:]),
        unread=snapshot.unread,
    )


def decide(snapshot: Snapshot) -> Verdict:
    """Return the verdict of the first rule that has one."""
    status = adapter_status(snapshot.document)
    for rule in _RULES:
        if verdict := rule(snapshot, status):
            return verdict
    text = "The operator has accepted the adapter, and no pod has told of it yet"
    return Verdict(Standing.WAITING, Reason.NOT_KNOWN_YET, text, "wait a moment")


def _deleting(snapshot: Snapshot, _: LoRAAdapterStatus) -> Verdict | None:
    if "deletionTimestamp" not in snapshot.document["metadata"]:
        return None
    return Verdict(Standing.WAITING, Reason.UNLOADING, "The adapter is being deleted, and the pods unload it first")


def _degraded(_: Snapshot, status: LoRAAdapterStatus) -> Verdict | None:
    found = find_condition(status.conditions, ConditionType.DEGRADED)
    if found is None or found.status != "True":
        return None
    pod = next((each for each in status.pods if each.reason == found.reason), None)
    hint = _HINTS.get(found.reason, _OTHERWISE)
    progressing = find_condition(status.conditions, ConditionType.PROGRESSING)
    rolled_back = bool(progressing and progressing.reason == Reason.ROLLED_BACK)
    start = "The new version was rolled back" if rolled_back else "The adapter is not served as it should be"
    if pod and pod.message and pod.message not in found.message:
        return Verdict(Standing.TROUBLE, found.reason, f"{start}: {found.message}: {pod.message}", hint)
    return Verdict(Standing.TROUBLE, found.reason, f"{start}: {found.message or found.reason}", hint)


def _pods(_: Snapshot, status: LoRAAdapterStatus) -> Verdict | None:
    """Return what the pods say that do not serve it, those that need somebody first."""
    for state, reason in (("NotInjected", Reason.NOT_INJECTED), ("Unreachable", Reason.POD_UNREACHABLE)):
        if named := [each for each in status.pods if each.state == state]:
            text = f"{_names(named)}: {named[0].message or _STATES[state]}"
            return Verdict(Standing.TROUBLE, reason, text, _HINTS[reason])
    if refused := [each for each in status.pods if each.state == AdapterState.FAILED]:
        first = refused[0]
        engine = f" ({first.engine})" if first.engine else ""
        text = f"{_names(refused)}{engine}: {first.message or first.reason}"
        return Verdict(Standing.TROUBLE, first.reason, text, _HINTS.get(first.reason, _OTHERWISE))
    return None


def _no_pods(snapshot: Snapshot, status: LoRAAdapterStatus) -> Verdict | None:
    if status.desired_pods != 0:
        return None
    name = snapshot.document["metadata"]["name"]
    ask = f'label {INJECT_LABEL}: "true" and annotation {ADAPTERS_ANNOTATION}: "{name}"'
    unlabelled = [each for each in snapshot.pods if _asks(each, name) and not _has_label(each)]
    if unlabelled:
        pod = unlabelled[0]["metadata"]["name"]
        text = f"No pod serves the adapter: pod {pod} names it in its annotation, but lacks the label {INJECT_LABEL}"
        return Verdict(Standing.TROUBLE, Reason.NO_PODS, text, f"give the pod template the {ask}")
    text = "The adapter is ready to be served, but no pod asks for it"
    return Verdict(Standing.WAITING, Reason.NO_PODS, text, f"give the pod template of an engine the {ask}")


def _asks(pod: dict[str, object], name: str) -> bool:
    annotations = (pod["metadata"].get("annotations") or {}) if isinstance(pod["metadata"], dict) else {}
    return name in [each.strip() for each in str(annotations.get(ADAPTERS_ANNOTATION, "")).split(",")]


def _has_label(pod: dict[str, object]) -> bool:
    labels = (pod["metadata"].get("labels") or {}) if isinstance(pod["metadata"], dict) else {}
    return labels.get(INJECT_LABEL) == "true"


def _served(_: Snapshot, status: LoRAAdapterStatus) -> Verdict | None:
    if not is_true(status.conditions, ConditionType.READY):
        return None
    ready = find_condition(status.conditions, ConditionType.READY)
    text = f"Version {status.digest_short} is served by {status.served_pods} pods"
    return Verdict(Standing.DONE, ready.reason if ready else Reason.SERVED, text)


def _progressing(snapshot: Snapshot, status: LoRAAdapterStatus) -> Verdict | None:
    for kind in (ConditionType.PROGRESSING, ConditionType.READY):
        found = find_condition(status.conditions, kind)
        if found and (found.status == "True" or kind == ConditionType.READY):
            text = f"The adapter is on its way: {found.message or found.reason}"
            space = snapshot.document["metadata"]["namespace"]
            hint = f"wait; `kubectl lora adapters -n {space}` shows each pod"
            return Verdict(Standing.WAITING, found.reason, text, hint)
    return None


_RULES: tuple[Callable[[Snapshot, LoRAAdapterStatus], Verdict | None], ...] = (
    lambda snapshot, status: not_seen(snapshot, status.observed_generation),
    _deleting,
    _degraded,
    _pods,
    _no_pods,
    _served,
    _progressing,
)
_STATES = {
    "NotInjected": "it has no agent, because the webhook did not see it when it was made",
    "Unreachable": "the operator gets no answer from the agent in it",
}


def _names(pods: list[PodAdapterState]) -> str:
    more = f" and {len(pods) - 1} more" if len(pods) > 1 else ""
    return f"Pod {pods[0].name}{more}"


def _pod_line(pod: PodAdapterState) -> str:
    said = ": ".join(each for each in (pod.reason, pod.message) if each)
    engine = f" ({pod.engine})" if pod.engine else ""
    return f"Pod {pod.name}{engine}: {pod.state}" + (f": {said}" if said else "")
