"""The LoRAJob that would train an adapter again, from what its manifest says: pure.

The manifest holds the request and what it turned out to mean. Those of earlier trainers lack the request; then it is
guessed. What no manifest holds (secrets, storage, where and how pods run) is left out and named, never made up.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from lora_api.artifacts import ArtifactLayout, Manifest, ManifestRequest
from lora_api.lorajob import LoRAJobSpec
from lora_api.names import API_VERSION
from lora_api.request import REQUEST_FIELDS
from lora_cli.faults import faults
from lora_cli.guessed_spec import UNKNOWN_OUTPUT, Document, guess


class Origin(StrEnum):
    """Where the spec comes from, and so how sure it is that it is the one that was trained."""

    REQUEST = "Request"
    """The manifest holds it."""
    REPORT = "Report"
    """It was guessed, and the digest in the report of the run proves it."""
    GUESS = "Guess"


@dataclass(frozen=True)
class Reproduction:
    """A LoRAJob, and what a reader must know of it."""

    document: Document
    notes: list[str]
    """One line each; what has to be looked at begins with CHECK."""
    origin: Origin


def reproduce(
    manifest: Manifest,
    uri: str,
    task_type: str = "",
    report: Document | None = None,
    storage: Document | None = None,
    versions: Mapping[str, str] | None = None,
) -> Reproduction:
    """Return the LoRAJob.

    `uri` is the adapter's folder and `storage` how it is read. `task_type` (of adapter_config.json) and `report` (the
    run's report.json) help to guess. `versions` are those of the libraries here, by the names in the manifest.
    """
    if manifest.request is not None:
        spec, origin = _requested(manifest.request), Origin.REQUEST
        checks = _checks_of_request(manifest, manifest.request, spec, uri)
    else:
        spec, proved = guess(manifest, uri, task_type, report or {})
        origin = Origin.REPORT if proved else Origin.GUESS
        checks = _checks_of_guess(manifest, spec, proved=proved)
    notes = [*_facts(manifest), *checks, *_checks_of_places(spec), *_checks_of_libraries(manifest, versions or {})]
    job = manifest.job
    document = {
        "apiVersion": API_VERSION,
        "kind": "LoRAJob",
        "metadata": {"name": job.name, "namespace": job.namespace},
        "spec": _pinned(manifest, spec) | ({"storage": storage} if storage else {}),
    }
    return Reproduction(document, notes, origin)


def _requested(request: ManifestRequest) -> Document:
    """Return the spec of the request: of a manifest that was tampered with, nothing that decides no result."""
    return copy.deepcopy({name: value for name, value in request.spec.items() if name in REQUEST_FIELDS})


def _pinned(manifest: Manifest, spec: Document) -> Document:
    """Return the spec with the base as it was: a hub model at its commit. A folder has no revisions to ask for."""
    base = manifest.base_model
    if not base.uri.startswith("hf://"):
        return spec
    asked = spec.get("baseModel")
    return spec | {"baseModel": (asked if isinstance(asked, dict) else {}) | {"revision": base.revision}}


def _facts(manifest: Manifest) -> Iterator[str]:
    job = manifest.job
    yield f"trains {manifest.digest} again: run {job.run} of {job.namespace}/{job.name}"
    yield f"base revision {manifest.base_model.revision}, data {manifest.dataset.digest}, {manifest.dataset.rows} rows"
    yield "versions: " + ", ".join(f"{name} {value}" for name, value in sorted(manifest.versions.items()))
    yield "the same digest can be expected on a CPU only; GPUs round differently from run to run"


def _checks_of_request(manifest: Manifest, request: ManifestRequest, spec: Document, uri: str) -> Iterator[str]:
    yield "the settings are those that were asked for, with the defaults of then: the manifest holds the request"
    yield "add storage, scheduling and pod as your cluster needs them: they are not in it"
    for field in request.withheld:
        yield f"CHECK {field}: {_withheld(field)}"
    for name in sorted(request.spec.keys() - REQUEST_FIELDS):
        yield f"CHECK {name}: left out: this kubectl-lora does not know it as a field that decides the result"
    for fault in _faults(spec):
        yield f"CHECK {fault}"
    output = spec.get("output")
    asked = output.get("uri") if isinstance(output, dict) else None
    if isinstance(asked, str) and uri.startswith("s3://") and uri.rstrip("/") != _place(manifest, asked):
        yield f"CHECK output.uri: the adapter lies in {uri}, and its job did not put it there"


def _withheld(field: str) -> str:
    if field.endswith("SecretRef"):
        return "a Secret was named, and the manifest names none: name yours, if the model is gated"
    return "only a part is kept, as the rest of the URL may be secret: write all of it"


def _faults(spec: Document) -> list[str]:
    """Return what is wrong with the spec, if a trainer of another version wrote it."""
    try:
        LoRAJobSpec.model_validate(spec)
    except ValidationError as error:
        return faults(error)
    return []


def _place(manifest: Manifest, output: str) -> str:
    job = manifest.job
    layout = ArtifactLayout(output_uri=output, namespace=job.namespace, name=job.name, run=job.run)
    return layout.adapter(manifest.digest)


def _checks_of_guess(manifest: Manifest, spec: Document, *, proved: bool) -> Iterator[str]:
    yield "the manifest is of an earlier trainer and holds no request: what it leaves open is guessed as the default"
    if proved:
        yield "the digest of the spec in report.json proves that this is what was trained"
    elif "validation" in spec["dataset"]:
        yield f"CHECK dataset.validation: the manifest says only that {manifest.dataset.validation_rows} rows"
        yield "  were set aside; and dataset.mixture, columns and evaluation, of which it says nothing"
    else:
        yield "CHECK dataset.mixture, columns and evaluation: the manifest says nothing of them"
    if spec["output"]["uri"] == UNKNOWN_OUTPUT:
        yield "CHECK output.uri: the adapter does not lie where its job put it"


def _checks_of_places(spec: Document) -> Iterator[str]:
    local = list(_local_fields(spec, ""))
    if local:
        yield f"CHECK {', '.join(local)}: file:// is a place of one machine: `run` takes it, `submit` does not"


def _local_fields(value: Any, field: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _local_fields(each, f"{field}.{name}" if field else str(name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _local_fields(each, f"{field}[{index}]")
    elif isinstance(value, str) and value.startswith("file://"):
        yield field


def _checks_of_libraries(manifest: Manifest, here: Mapping[str, str]) -> Iterator[str]:
    """Say what may compute otherwise. The spec names no image: one of another release may not read the job file."""
    then = manifest.versions
    other = [
        f"{name} {then[name]} (here {here[name]})" for name in sorted(then) if here.get(name, then[name]) != then[name]
    ]
    if other:
        yield f"CHECK versions: it was trained with {', '.join(other)}"
    if manifest.job.image:
        yield f"CHECK pod.image: it was trained by {manifest.job.image}; name it if the operator's default is another"
