"""How the fake nodes play pods: they start at once, and end after a time, if they are to end, with a trainer's words.

Pods that do not bear the label of a short life run until they are deleted.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bench.operator.binaries import module_folder
from lora_api.messages import TerminationMessage
from lora_api.names import JOB_LABEL, STAGE_LABEL
from support.samples import ADAPTER, PREFLIGHT_DONE, TRAIN_DONE

LIFE_LABEL = "bench-life"
SHORT = "short"
POD_IP = "::1"
"""Of all pods: the benchmark answers here when asked for progress. IPv6, which no trainer on this machine uses."""
TRAIN_SECONDS = 2.0
PREFLIGHT_SECONDS = 1.0
_NAME_PLACE = "__JOB__"
_DELETED, _NOT_DELETED = (
    {"key": ".metadata.deletionTimestamp", "operator": operator} for operator in ("Exists", "DoesNotExist")
)
_RUNS = {"key": ".status.phase", "operator": "In", "values": ["Running"]}
_STAGE = f'.metadata.labels["{STAGE_LABEL}"]'

Document = dict[str, Any]


def adapter_uri(job: str) -> str:
    """Return the URI that the trainer of a job says."""
    return f"s3://bench/{job}"


def pod_stages() -> list[Document]:
    """Return the stages for kwok: start, the three ends, and deletion."""
    folder = module_folder("kwok", "sigs.k8s.io/kwok") / "kustomize" / "stage" / "pod" / "fast"
    published = TRAIN_DONE.model_copy(update={"adapter": ADAPTER.model_copy(update={"uri": adapter_uri(_NAME_PLACE)})})
    return [
        _at_one_address(folder / "pod-ready.yaml"),
        _end("preflight", PREFLIGHT_SECONDS, {STAGE_LABEL: "preflight"}, [], PREFLIGHT_DONE),
        _end("train", TRAIN_SECONDS, {STAGE_LABEL: "train", LIFE_LABEL: SHORT}, [], published),
        _end("other", TRAIN_SECONDS, {LIFE_LABEL: SHORT}, [{"key": _STAGE, "operator": "DoesNotExist"}], None),
        *_deletion(),
    ]


def _at_one_address(file: Path) -> Document:
    stage: Document = yaml.safe_load(file.read_text())
    head, _, rest = stage["spec"]["next"]["statusTemplate"].partition("{{ $podIPs :=")
    assert rest.rstrip().endswith("startTime: {{ $now | Quote }}"), rest  # noqa: S101 - another kwok, another template
    tail = f'podIP: "{POD_IP}"\npodIPs:\n- ip: "{POD_IP}"\nphase: Running\nstartTime: {{{{ $now | Quote }}}}\n'
    stage["spec"]["next"]["statusTemplate"] = head + tail
    return stage


def _end(
    name: str, seconds: float, labels: dict[str, str], expressions: list[Document], words: TerminationMessage | None
) -> Document:
    """Return the stage in which a pod's only container ends with exit code 0 and a message."""
    selector = {"matchLabels": labels, "matchExpressions": [_NOT_DELETED, _RUNS, *expressions]}
    delay = {"durationMilliseconds": round(seconds * 1000)}
    return _stage(f"ends-{name}", selector=selector, delay=delay, next={"statusTemplate": _ended(words)})


def _deletion() -> Iterator[Document]:
    """Yield the two stages of a deletion. Like the kubelet, the first says how the pod ended: a Job waits for that."""
    ended = {"key": ".status.phase", "operator": "In", "values": ["Succeeded", "Failed"]}
    unended = ended | {"operator": "NotIn"}
    status = "phase: Failed\nreason: Deleted\n"
    yield _stage("terminates", selector={"matchExpressions": [_DELETED, unended]}, next={"statusTemplate": status})
    yield _stage("goes", selector={"matchExpressions": [_DELETED, ended]}, next={"delete": True})


def _stage(name: str, **spec: Any) -> Document:
    about = {"resourceRef": {"apiGroup": "v1", "kind": "Pod"}}
    metadata = {"name": f"pod-{name}"}
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": metadata, "spec": about | spec}


def _ended(words: TerminationMessage | None) -> str:
    message = f"\n      message: {_template(words)}" if words else ""
    return f"""{{{{ $now := Now }}}}
conditions:
- lastTransitionTime: {{{{ $now | Quote }}}}
  reason: PodCompleted
  status: "False"
  type: Ready
- lastTransitionTime: {{{{ $now | Quote }}}}
  reason: PodCompleted
  status: "False"
  type: ContainersReady
containerStatuses:
{{{{ range .spec.containers }}}}
- image: {{{{ .image | Quote }}}}
  name: {{{{ .name | Quote }}}}
  ready: false
  restartCount: 0
  started: false
  state:
    terminated:
      exitCode: 0
      reason: Completed
      startedAt: {{{{ $now | Quote }}}}
      finishedAt: {{{{ $now | Quote }}}}{message}
{{{{ end }}}}
phase: Succeeded
"""


def _template(words: TerminationMessage) -> str:
    """Return the Go template that writes a message, with the name of the pod's job in its place."""
    text = words.encode().decode().replace("%", "%%").replace(_NAME_PLACE, "%s")
    job = f'(index $.metadata.labels "{JOB_LABEL}")' if "%s" in text else ""
    return f"{{{{ printf `{text}` {job} | Quote }}}}"
