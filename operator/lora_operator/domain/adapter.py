"""Builds the LoRAAdapter of a job that succeeded, and says whether one may be written.

It has no owner reference: the adapter outlives its job. Whose it is says the job label, so an adapter that a person
wrote by hand, or that another job made, is never touched.
"""

from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import AdapterResult
from lora_api.names import API_VERSION
from lora_api.sources import Storage
from lora_operator.domain.children import labels
from lora_operator.domain.observed import AdapterView, Document, ObservedJob


def adapter_name(job: ObservedJob, spec: LoRAJobSpec) -> str:
    """Return the name of the job's LoRAAdapter."""
    return spec.adapter.name or job.name


def belongs_to(view: AdapterView, job: ObservedJob) -> bool:
    """Return whether the job may write an existing LoRAAdapter."""
    return view.job_label == job.name


def is_current(view: AdapterView, result: AdapterResult) -> bool:
    """Return whether a LoRAAdapter already names the published files."""
    return view.digest == result.digest and view.uri == result.uri


def build_adapter(job: ObservedJob, spec: LoRAJobSpec, result: AdapterResult, base_revision: str | None) -> Document:
    """Return the LoRAAdapter for the published files."""
    name = adapter_name(job, spec)
    source: Document = {"uri": result.uri, "digest": result.digest}
    if spec.storage != Storage():
        source["storage"] = spec.storage.wire()
    return {
        "apiVersion": API_VERSION,
        "kind": "LoRAAdapter",
        "metadata": {"namespace": job.namespace, "name": name, "labels": labels(job, "adapter")},
        "spec": {
            "baseModel": _base_model(spec, base_revision),
            "source": source,
            "servedName": spec.adapter.served_name or name,
        },
    }


def _base_model(spec: LoRAJobSpec, revision: str | None) -> Document:
    reference: Document = {"name": spec.base_model.uri.removeprefix("hf://")}
    return reference | ({"revision": revision} if revision else {})
