"""The LoRAJob that would train an adapter again, from what its manifest and report say: pure.

The manifest does not hold the spec itself. What it does not say (the share set aside for validation, task and
objective) is tried in the few ways that fit its numbers, and the digest of the spec in report.json proves which it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lora_api.artifacts import Manifest
from lora_api.lorajob import LoRAJobSpec
from lora_api.names import API_VERSION

Document = dict[str, Any]
_NOT_A_SETTING = ("plan", "quantization")
_TASKS = {
    "CAUSAL_LM": "CausalLM",
    "SEQ_CLS": "SequenceClassification",
    "TOKEN_CLS": "TokenClassification",
    "SEQ_2_SEQ_LM": "Seq2SeqLM",
}
_DIGITS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Reproduction:
    """A LoRAJob, and what a reader must know of it."""

    document: Document
    notes: list[str]
    proved: bool
    """Whether the digest says that the spec is the one that was trained."""


def reproduce(
    manifest: Manifest, uri: str, task_type: str = "", report: Document | None = None, storage: Document | None = None
) -> Reproduction:
    """Return the LoRAJob. `uri` is the adapter's folder, `task_type` that of its adapter_config.json."""
    report = report or {}
    wanted = report.get("specDigest")
    fitting = (each for each in _candidates(manifest, uri, task_type, report) if wanted and _digest(each) == wanted)
    proved = next(fitting, None)
    spec = proved or next(_candidates(manifest, uri, task_type, report))
    spec |= _fixed_revision(manifest) | ({"storage": storage} if storage else {})
    job = manifest.job
    document = {
        "apiVersion": API_VERSION,
        "kind": "LoRAJob",
        "metadata": {"name": job.name, "namespace": job.namespace},
        "spec": spec,
    }
    return Reproduction(document, _notes(manifest, spec, proved=proved is not None), proved is not None)


def _candidates(manifest: Manifest, uri: str, task_type: str, report: Document) -> Iterator[Document]:
    """Yield the specs that fit what is known, the likeliest first."""
    for validation in _validations(manifest, report):
        for revision in ("main", manifest.base_model.revision):
            spec = _spec(manifest, uri, task_type, report)
            spec["dataset"] |= {"validation": validation} if validation else {}
            if revision != "main":
                spec["baseModel"]["revision"] = revision
            yield spec


def _spec(manifest: Manifest, uri: str, task_type: str, report: Document) -> Document:
    quantization = manifest.training.get("quantization")
    train = _train(manifest, report)
    dpo = "rewardAccuracy" in manifest.metrics
    return {
        "task": _TASKS.get(task_type, "CausalLM"),
        **({"objective": "DPO"} if dpo else {}),
        "baseModel": {"uri": manifest.base_model.uri},
        "dataset": {"train": train},
        "output": {"uri": _output(manifest, uri)},
        "lora": manifest.lora,
        **({"quantization": quantization} if quantization else {}),
        "training": {name: value for name, value in manifest.training.items() if name not in _NOT_A_SETTING}
        | {"seed": manifest.seed},
    }


def _train(manifest: Manifest, report: Document) -> Document:
    sets = (report.get("data") or {}).get("sets") or []
    weight = next((each.get("weight") for each in sets if each.get("uri") == manifest.dataset.uri), None)
    return {"uri": manifest.dataset.uri} | ({"weight": weight} if weight not in (None, 1, 1.0) else {})


def _validations(manifest: Manifest, report: Document) -> list[Document | None]:
    """Return what the validation may have been: another set of the report, or a round share of the rows."""
    aside = manifest.dataset.validation_rows
    if not aside:
        return [None]
    sets = (report.get("data") or {}).get("sets") or []
    others: list[Document | None] = [{"uri": each["uri"]} for each in sets[1:] if each.get("uri")]
    return others + [{"fraction": each} for each in _shares(aside, aside + manifest.dataset.rows)]


def _shares(aside: int, rows: int) -> list[float]:
    """Return the round shares that set aside about so many rows, the best first: nearest, then with fewest digits."""
    share = aside / rows
    near = [(digits, round(share + step * 10**-digits, digits)) for digits in _DIGITS for step in (0, 1, -1)]
    ranked = sorted((abs(round(rows * each) - aside), digits, each) for digits, each in near if 0 < each < 1)
    return list(dict.fromkeys(each for _, _, each in ranked))


def _output(manifest: Manifest, uri: str) -> str:
    job = manifest.job
    root, found, _ = uri.rpartition(f"/{job.namespace}/{job.name}/")
    if not found:
        return "s3://CHANGE-ME"
    return root if "://" in root else f"file://{root}"


def _fixed_revision(manifest: Manifest) -> Document:
    """Return the base as it was: a hub model at its commit. A folder has no revisions to ask for."""
    base = manifest.base_model
    pinned = {"revision": base.revision} if base.uri.startswith("hf://") else {}
    return {"baseModel": {"uri": base.uri} | pinned}


def _digest(spec: Document) -> str | None:
    try:
        return LoRAJobSpec.model_validate(spec).result_digest()
    except ValidationError:
        return None


def _notes(manifest: Manifest, spec: Document, *, proved: bool) -> list[str]:
    notes = [
        f"trains {manifest.digest} again: run {manifest.job.run} of {manifest.job.namespace}/{manifest.job.name}",
        f"base revision {manifest.base_model.revision}, data {manifest.dataset.digest}, {manifest.dataset.rows} rows",
        "versions: " + ", ".join(f"{name} {value}" for name, value in sorted(manifest.versions.items())),
        f"image: {manifest.job.image}" if manifest.job.image else "",
        "the same digest can be expected on a CPU only; GPUs round differently from run to run",
    ]
    if proved:
        notes.append("the digest of the spec in report.json proves that this is what was trained")
    elif "validation" in spec["dataset"]:
        notes.append(f"CHECK dataset.validation: the manifest says only that {manifest.dataset.validation_rows} rows")
        notes.append("  were set aside; and dataset.mixture, columns and evaluation, of which it says nothing")
    else:
        notes.append("CHECK dataset.mixture, columns and evaluation: the manifest says nothing of them")
    if spec["output"]["uri"] == "s3://CHANGE-ME":
        notes.append("CHECK output.uri: the adapter does not lie where its job put it")
    return [each for each in notes if each]
