"""From a trained model to what others can use: the adapter with its manifest, and the forms of it that were asked for.

The forms come first and the adapter last: when the adapter is visible, everything that belongs to it is there.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lora_api.artifacts import (
    FileEntry,
    GoldenSample,
    Manifest,
    ManifestBaseModel,
    ManifestDataset,
    ManifestJob,
    digest_of,
)
from lora_api.lorajob import LoRAJobSpec
from lora_api.messages import AdapterResult, Resolved
from lora_api.request import public_uri, request_of
from lora_api.servability import verdicts
from lora_api.training import Task
from lora_trainer.context import Context
from lora_trainer.publish.adapter import save_adapter
from lora_trainer.publish.documents import write_documents
from lora_trainer.publish.forms import publish_forms
from lora_trainer.publish.golden import golden_samples
from lora_trainer.publish.publication import base_name, file_entries, publish
from lora_trainer.publish.size import Sizes, stored_bytes_per_value
from lora_trainer.report import library_versions
from lora_trainer.resolve import Resolution
from lora_trainer.training.trainer import LoraTrainer


def deliver(
    context: Context, resolution: Resolution, resolved: Resolved, trainer: LoraTrainer, base: Path
) -> AdapterResult:
    """Save and publish the adapter that a trainer has in place, and return what it is. `base` is the base's folder.

    With several ranks all have to call, as each may hold a part of the weights; the first one publishes.
    """
    folder = context.workspace.run_folder("adapter")
    uri = context.job.spec.base_model.uri
    config = save_adapter(trainer.model, folder, uri, resolved.base_revision)
    files = file_entries(folder)
    manifest = describe(context, resolution, resolved, trainer, files)
    manifest = manifest.model_copy(update={"servable": verdicts(config)})
    result = AdapterResult(
        uri=context.layout.adapter(manifest.digest),
        digest=manifest.digest,
        bytes=sum(file.size for file in files),
        metrics=manifest.metrics,
        servable=manifest.servable,
    )
    if trainer.ranks.first:
        manifest = manifest.model_copy(update={"samples": _samples(context, resolution, trainer)})
        _publish(context, resolution, resolved, trainer, manifest, folder, base)
    return result


def describe(
    context: Context, resolution: Resolution, resolved: Resolved, trainer: LoraTrainer, files: list[FileEntry]
) -> Manifest:
    """Return the manifest of the adapter in some files."""
    job, spec = context.job, context.job.spec
    return Manifest(
        kind="Adapter",
        digest=digest_of(files),
        files=files,
        base_model=ManifestBaseModel(
            name=base_name(spec.base_model.uri), uri=spec.base_model.uri, revision=resolved.base_revision
        ),
        dataset=ManifestDataset(
            uri=public_uri(spec.dataset.train.uri),
            digest=resolved.dataset_digest,
            rows=resolved.rows,
            validation_rows=resolved.validation_rows,
            tokens=resolved.tokens,
        ),
        job=ManifestJob(namespace=job.namespace, name=job.name, uid=job.uid, run=job.run, image=job.image),
        lora=spec.lora.wire(),
        training=spec.training.wire() | _quantization(spec) | {"plan": trainer.plan.wire()},
        request=request_of(spec),
        metrics=trainer.recorder.final_metrics(trainer.published_step),
        seed=spec.training.seed,
        step=trainer.published_step,
        versions=library_versions(),
        created_time=datetime.now(UTC).replace(microsecond=0),
    )


def _quantization(spec: LoRAJobSpec) -> dict[str, Any]:
    """Return how the base was quantized, or nothing: an engine may serve it otherwise than it was trained on."""
    return {"quantization": spec.quantization.wire()} if spec.quantization else {}


def _samples(context: Context, resolution: Resolution, trainer: LoraTrainer) -> list[GoldenSample]:
    """Return what base and adapter say in the number formats of the evaluations; nothing of other tasks.

    Nothing of a quantized base either: an engine serves the base as it is, and four bits move its answers further than
    many an adapter does (0.5 to 1.9 on SmolLM2, mean distance of log-probabilities).
    """
    if context.job.spec.task is not Task.CAUSAL_LM or context.job.spec.quantization is not None:
        return []
    with trainer.compute_loss_context_manager():
        return golden_samples(trainer.model, resolution.tokenizer)


def _publish(
    context: Context,
    resolution: Resolution,
    resolved: Resolved,
    trainer: LoraTrainer,
    manifest: Manifest,
    folder: Path,
    base: Path,
) -> None:
    publish_forms(context, base, folder, manifest, resolution.labels)
    stored = stored_bytes_per_value(resolution.base.config)
    documents = write_documents(
        folder,
        manifest,
        Sizes(resolved.parameters, resolved.trainable_parameters, stored),
        trainer.recorder.history,
        task=context.job.spec.task.value,
        labels=resolution.labels,
    )
    publish(context, folder, manifest.model_copy(update={"documents": documents}))
