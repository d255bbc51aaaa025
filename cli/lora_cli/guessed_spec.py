"""The spec that trained an adapter whose manifest does not hold the request, as those of earlier trainers do not: pure.

What the manifest does not say (the share set aside for validation, task and objective) is tried in the few ways that
fit its numbers, and the digest of the spec in report.json proves which it was. All else is taken for the default.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from lora_api.artifacts import Manifest
from lora_api.lorajob import LoRAJobSpec

Document = dict[str, Any]
UNKNOWN_OUTPUT = "s3://CHANGE-ME"
_NOT_A_SETTING = ("plan", "quantization")
_TASKS = {
    "CAUSAL_LM": "CausalLM",
    "SEQ_CLS": "SequenceClassification",
    "TOKEN_CLS": "TokenClassification",
    "SEQ_2_SEQ_LM": "Seq2SeqLM",
}
_DIGITS = (1, 2, 3, 4)


def guess(manifest: Manifest, uri: str, task_type: str, report: Document) -> tuple[Document, bool]:
    """Return the likeliest spec, and whether the digest in the report proves it.

    `uri` is the adapter's folder, `task_type` that of its adapter_config.json.
    """
    wanted = report.get("specDigest")
    fitting = (each for each in _candidates(manifest, uri, task_type, report) if wanted and _digest(each) == wanted)
    proved = next(fitting, None)
    spec = proved or next(_candidates(manifest, uri, task_type, report))
    spec["baseModel"].pop("revision", None)  # the manifest has the commit; a folder has no revisions to ask for
    return spec, proved is not None


def _digest(spec: Document) -> str | None:
    try:
        return LoRAJobSpec.model_validate(spec).result_digest()
    except ValidationError:
        return None


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
        return UNKNOWN_OUTPUT
    return root if "://" in root else f"file://{root}"
