"""The objects that the operator would create: a line for each, or YAML as `kubectl apply` takes it. Pure."""

from typing import Any

import yaml

from lora_api.names import QUEUE_LABEL
from lora_api.preview import PublishedAdapter
from lora_cli.render.units import duration

Document = dict[str, Any]


def object_lines(objects: list[Document], adapter: PublishedAdapter | None) -> list[str]:
    """Return a line for each object: kind, name, and what of it costs something or decides where it runs."""
    rows = [(each["kind"], each["metadata"]["name"], _about(each)) for each in objects]
    if adapter is not None:
        rows.append(("LoRAAdapter", adapter.name, f"when the run has succeeded, served as {adapter.served_name}"))
    kinds, names = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    return [f"  {kind:<{kinds}}  {name:<{names}}  {about}".rstrip() for kind, name, about in rows]


def _about(document: Document) -> str:
    if document["kind"] == "Service":
        ports = ", ".join(f"port {each['port']}" for each in document["spec"].get("ports") or [])
        return f"headless, {ports}"
    return "; ".join(_about_job(document)) if document["kind"] == "Job" else ""


def _about_job(document: Document) -> list[str]:
    spec = document["spec"]
    pod, pods = spec["template"]["spec"], spec.get("parallelism", 1)
    container = pod["containers"][0]
    parts = [f"{pods} pods" if pods > 1 else "", f"image {container['image']}", _resources(container)]
    queue = (document["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    if queue:
        parts.append(f"queue {queue}")
    parts += [f"{words} {pod[name]}" for name, words in _PLACEMENT.items() if pod.get(name)]
    parts += _places(pod)
    if seconds := spec.get("activeDeadlineSeconds"):
        parts.append(f"deadline {duration(seconds)}")
    return [each for each in parts if each]


_PLACEMENT = {
    "priorityClassName": "priority",
    "runtimeClassName": "runtime class",
    "serviceAccountName": "service account",
}


def _resources(container: Document) -> str:
    """Return `cpu 1, memory 16Gi, nvidia.com/gpu 8`; a limit that is another than the request stands behind it."""
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    return ", ".join(
        f"{name} {value}" + (f" (limit {limits[name]})" if limits.get(name, value) != value else "")
        for name, value in requests.items()
    )


def _places(pod: Document) -> list[str]:
    selector = ", ".join(f"{name}={value}" for name, value in (pod.get("nodeSelector") or {}).items())
    tolerations = [str(each.get("key") or "everything") for each in pod.get("tolerations") or []]
    claims = [each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"] if "persistentVolumeClaim" in each]
    return [
        *([f"node selector {selector}"] if selector else []),
        *([f"tolerates {', '.join(tolerations)}"] if tolerations else []),
        *(["affinity"] if pod.get("affinity") else []),
        *([f"claims {', '.join(claims)}"] if claims else []),
    ]


class _Dumper(yaml.SafeDumper):
    """Repeats instead of pointing: anchors are hard to read."""

    def ignore_aliases(self, data: Any) -> bool:
        """Say that nothing is an alias."""
        return True


def yaml_documents(objects: list[Document]) -> str:
    """Return the objects as YAML documents. What is not ASCII is written as escapes, so it steers no terminal."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=120, explicit_start=True) if objects else ""
