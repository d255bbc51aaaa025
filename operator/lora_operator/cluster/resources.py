"""The kinds of the API that the operator reads or writes, and where the API server has them."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from lora_api.names import API_VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of the API."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the path of the collection, or of one object."""
        root = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        scope = f"/namespaces/{quote(namespace)}" if namespace else ""
        return f"{root}{scope}/{self.plural}" + (f"/{quote(name)}" if name else "")


LORAJOBS: Final = Resource(API_VERSION, "LoRAJob", "lorajobs")
LORAADAPTERS: Final = Resource(API_VERSION, "LoRAAdapter", "loraadapters")
SERVICES: Final = Resource("v1", "Service", "services")
PODS: Final = Resource("v1", "Pod", "pods")
EVENTS: Final = Resource("v1", "Event", "events")
JOBS: Final = Resource("batch/v1", "Job", "jobs")
WORKLOADS: Final = tuple(
    Resource(f"kueue.x-k8s.io/{version}", "Workload", "workloads") for version in ("v1beta2", "v1beta1")
)
"""Kueue's word on a Job, in the versions that a Kueue may serve; both have the same conditions."""
_BY_KIND: Final = {each.kind: each for each in (LORAJOBS, LORAADAPTERS, SERVICES, PODS, EVENTS, JOBS)}


def resource_of(kind: str) -> Resource:
    """Return the resource of a kind that the operator writes."""
    return _BY_KIND[kind]
