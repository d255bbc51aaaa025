"""The forms of an adapter besides itself that a job asks for, each an artifact with a manifest of its own.

They are made from the published files and the base as it was downloaded, never from the model in memory, so they are
what anybody would make who has the adapter.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_api.artifacts import Manifest, digest_of
from lora_api.lorajob import LoRAJobSpec
from lora_api.sources import OutputFormat
from lora_trainer.context import Context
from lora_trainer.publish.gguf import check_gguf, save_gguf
from lora_trainer.publish.publication import ADAPTER_CONFIG, file_entries, publish
from lora_trainer.storage.location import Location


def check_forms(spec: LoRAJobSpec, config: Mapping[str, Any], layers: list[str]) -> None:
    """Raise a `TrainerError` (64) for a form that this adapter cannot have.

    `config` is the content of the base's config.json, `layers` the paths of the layers that the adapter changes.
    """
    if OutputFormat.GGUF in spec.output.formats:
        check_gguf(spec, config, layers)


def publish_forms(
    context: Context, base: Path, adapter: Path, manifest: Manifest, labels: list[str]
) -> dict[OutputFormat, Location]:
    """Make and publish the forms that the job asks for, and return where they are.

    `base` and `adapter` are local folders, `manifest` is the adapter's, `labels` are the classes of a classification.
    """
    published = {}
    for form in context.job.spec.output.formats:
        folder = context.workspace.run_folder(form.value.lower())
        _save(form, context.job.spec, base, adapter, folder, labels)
        files = file_entries(folder)
        of_form = {"kind": form.value, "digest": digest_of(files), "files": files, "adapter": manifest.digest}
        of_adapter: dict[str, Any] = {"documents": [], "servable": [], "samples": []}
        published[form] = publish(context, folder, manifest.model_copy(update=of_form | of_adapter))
    return published


def _save(form: OutputFormat, spec: LoRAJobSpec, base: Path, adapter: Path, folder: Path, labels: list[str]) -> None:
    if form is OutputFormat.GGUF:
        save_gguf(adapter, folder, _json(base / "config.json"), _json(adapter / ADAPTER_CONFIG))
    else:
        from lora_trainer.publish.merged import save_merged  # with torch, which a preflight does without

        save_merged(base, adapter, folder, spec, labels)


def _json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
