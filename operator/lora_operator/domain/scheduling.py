"""Explains why no node takes a pod: what is short, on how many nodes, and which field asks for it.

Reads the sentence that the scheduler leaves in the condition PodScheduled. A cluster that grows may help by itself, so
this is a notice and no reason to stop; only a claim that does not exist stalls the job (`waiting.py`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from lora_api.lorajob import LoRAJobSpec
from lora_api.lorajob_status import Failure
from lora_api.reasons import Reason
from lora_operator.domain.observed import PodView
from lora_operator.domain.words import shown

_NODES = re.compile(r"^0/(?P<all>\d+) nodes are available: ?")
_TAIL = re.compile(r"\.? (no new claims to deallocate|preemption:|not found$).*$", re.DOTALL)
_COUNTED = re.compile(r"(\d+) (.+?)(?=, \d+ \S|$)")
_BY_ITSELF = "the job goes on by itself as soon as a node fits"
_MAX_CAUSES = 8


def unschedulable_failure(pod: PodView, spec: LoRAJobSpec | None) -> Failure:
    """Return what `status.failure` says while no node takes a pod."""
    message, hint = explain_unschedulable(pod.unschedulable, spec)
    return Failure(reason=Reason.UNSCHEDULABLE, message=f"Pod {pod.name} waits: {message}", hint=hint)


def explain_unschedulable(message: str, spec: LoRAJobSpec | None) -> tuple[str, str]:
    """Return a scheduler's message in plain words, and a hint for each of its causes."""
    text = _TAIL.sub("", message.strip()).rstrip(".")
    nodes = _NODES.match(text)
    if nodes is None:
        return f"no node fits: {shown(message)}", f"add a node that fits; {_BY_ITSELF}"
    rest = text[nodes.end() :]
    if not rest[:1].isdigit():  # nothing about single nodes: the pod itself has something that no node can help
        cause = _explain(rest, spec)
        return f"no node fits: {cause.what}", f"{cause.hint}; {_BY_ITSELF}"
    of_all = f"of {nodes['all']} {'node' if nodes['all'] == '1' else 'nodes'}"
    counted = [(number, _explain(what, spec)) for number, what in _COUNTED.findall(rest)[:_MAX_CAUSES]]
    found = ", ".join(f"{cause.what} on {number} {of_all}" for number, cause in counted)
    hints = dict.fromkeys(cause.hint for _, cause in counted)
    return f"no node fits: {found}", f"{'; or '.join(hints)}; {_BY_ITSELF}"


@dataclass(frozen=True, slots=True)
class _Cause:
    """One reason why nodes do not take the pod."""

    what: str
    """In plain words, to be followed by the number of nodes."""
    hint: str


def _explain(text: str, spec: LoRAJobSpec | None) -> _Cause:
    """Return one cause. A text that is not known is shown as it is."""
    for pattern, explain in _CAUSES:
        if found := pattern.search(text):
            return explain(found, spec)
    return _Cause(shown(text.removeprefix("node(s) ")), "change what the message names, in spec.scheduling or spec.pod")


def _short_resource(found: re.Match[str], spec: LoRAJobSpec | None) -> _Cause:
    name = found["name"]
    own = {
        "cpu": "lower spec.resources.cpu, or free CPU on a node; a preflight asks for 500m",
        "memory": "lower spec.resources.memory, or free memory on a node; a preflight asks for 1Gi",
        "ephemeral-storage": "free disk space on a node; a LimitRange of the namespace asks for it, not the job",
    }
    return _Cause(f"{name} is short", own.get(name) or _gpu_hint(name, spec))


def _gpu_hint(name: str, spec: LoRAJobSpec | None) -> str:
    asked = f" (now {spec.resources.gpus})" if spec else ""
    return (
        f"lower spec.resources.gpus{asked}, or wait for a node with as many free {name}; "
        "if the nodes offer their GPUs under another name, correct spec.resources.gpuResourceName"
    )


def _taint(found: re.Match[str], _: LoRAJobSpec | None) -> _Cause:
    key, value = found["key"], found["value"]
    taint = f"{key}={value}" if value else key
    if key.startswith(("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")):
        return _Cause(f"the node is {key.rpartition('/')[2]}", f"have the nodes with the taint {taint} repaired")
    return _Cause(f"the taint {taint} is not tolerated", f"add a toleration of {taint} to spec.scheduling.tolerations")


def _some_taint(_: re.Match[str], __: LoRAJobSpec | None) -> _Cause:
    hint = "add a toleration to spec.scheduling.tolerations; `kubectl describe nodes` shows the taints"
    return _Cause("a taint is not tolerated", hint)


def _selector(_: re.Match[str], spec: LoRAJobSpec | None) -> _Cause:
    scheduling = spec.scheduling if spec else None
    labels = ", ".join(f"{key}={value}" for key, value in scheduling.node_selector.items()) if scheduling else ""
    wanted = f" ({labels})" if labels else ""
    fields = " or ".join(
        ["spec.scheduling.nodeSelector"] * bool(labels or not scheduling or not scheduling.affinity)
        + ["spec.scheduling.affinity"] * bool(scheduling and scheduling.affinity)
    )
    return _Cause(f"the node selector{wanted} or affinity does not match", f"correct {fields}, or label a node")


def _fixed(what: str, hint: str) -> Callable[[re.Match[str], LoRAJobSpec | None], _Cause]:
    return lambda _, __: _Cause(what, hint)


_CAUSES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], LoRAJobSpec | None], _Cause]], ...] = (
    (re.compile(r"Insufficient (?P<name>\S+)"), _short_resource),
    (re.compile(r"taint \{(?P<key>[^:}]+): ?(?P<value>[^}]*)\}"), _taint),
    (re.compile(r"taint"), _some_taint),
    (re.compile(r"node affinity/selector|scheduler-enforced node affinity"), _selector),
    (
        re.compile(r"Too many pods"),
        _fixed("there are too many pods", "wait until other pods have ended, or add a node"),
    ),
    (
        re.compile(r"were unschedulable"),
        _fixed("the node is cordoned", "have the node opened again with `kubectl uncordon`"),
    ),
    (
        re.compile(
            r"unbound immediate PersistentVolumeClaims|available persistent volumes to bind|enough free storage"
        ),
        _fixed(
            "a PersistentVolumeClaim of the job has no volume",
            "check the claim with `kubectl describe pvc`: its StorageClass must make a volume, or one must fit",
        ),
    ),
    (
        re.compile(r"volume node affinity|PersistentVolume's node affinity|volume zone"),
        _fixed(
            "the volume of a claim can be reached from other nodes only",
            "allow the nodes of its zone in spec.scheduling.nodeSelector and affinity, or use a claim of another zone",
        ),
    ),
    (
        re.compile(r"ReadWriteOncePod access mode"),
        _fixed("a claim of the job is in use by another pod", "wait for that pod, or use a claim that several may use"),
    ),
    (
        re.compile(r"free ports"),
        _fixed(
            "a port of the node is taken",
            "the job asks for no host port: find the admission webhook of the cluster that adds one to its pods",
        ),
    ),
    (
        re.compile(r"pod (anti-)?affinity rules|topology spread constraints"),
        _fixed("a rule on pods that may stand together does not hold", "correct spec.scheduling.affinity"),
    ),
)
"""What the scheduler says of a node, and what it means; the first pattern that is found decides."""
