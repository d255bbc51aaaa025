"""The model card of an adapter: where it comes from, what it measured, what it costs to store, and how to load it.

Pure: Markdown with the front matter that model hubs read. Whatever it says is in the manifest, too.
"""

import json

from lora_api.artifacts import Manifest
from lora_trainer.publish.publication import base_name
from lora_trainer.publish.size import Sizes

_MODEL_CLASSES = {
    "CausalLM": "AutoModelForCausalLM",
    "SequenceClassification": "AutoModelForSequenceClassification",
    "TokenClassification": "AutoModelForTokenClassification",
    "Seq2SeqLM": "AutoModelForSeq2SeqLM",
}


def card(manifest: Manifest, sizes: Sizes, task: str, labels: list[str]) -> str:
    """Return the content of README.md. `labels` are the classes of a classification in the order of their ids."""
    parts = [
        _front_matter(manifest),
        f"# {manifest.job.name}\n",
        f"A LoRA adapter ({task}) for `{base_name(manifest.base_model.uri)}`, trained by lora-operator.\n",
        _origin(manifest),
        _table("Metrics", {name: f"{value:.6g}" for name, value in manifest.metrics.items()}),
        _table("LoRA", {name: _short(value) for name, value in manifest.lora.items()}),
        _storage(sizes),
        _servability(manifest),
        _loading(manifest, task, labels),
        "![losses of training and evaluation](losses.png)\n",
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(manifest: Manifest) -> str:
    base = json.dumps(base_name(manifest.base_model.uri))
    return f"---\nlibrary_name: peft\nbase_model: {base}\ntags: [lora, lora-operator]\n---\n"


def _origin(manifest: Manifest) -> str:
    data, job = manifest.dataset, manifest.job
    rows = {
        "adapter": manifest.digest,
        "base model": f"{manifest.base_model.uri}, revision {manifest.base_model.revision}",
        "data": f"{data.uri}, {data.digest}",
        "rows": f"{data.rows} trained on, {data.validation_rows} validated on, {data.tokens} tokens an epoch",
        "job": f"{job.namespace}/{job.name}, run {job.run}, {manifest.step} steps, seed {manifest.seed}",
        "libraries": ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items())),
    }
    return _table("Origin", rows)


def _storage(sizes: Sizes) -> str:
    return (
        "## Storage\n\n"
        f"{sizes.trainable:,} of {sizes.parameters:,} weights were trained, {sizes.trainable_share:.3%}. "
        f"The adapter takes {_megabytes(sizes.adapter)}; a full copy of the model for this task would take "
        f"{_megabytes(sizes.full)}, {sizes.full / max(sizes.adapter, 1):,.0f} times as much.\n"
    )


def _servability(manifest: Manifest) -> str:
    rows = {
        each.engine: f"{'yes' if each.servable else 'no'}{f': {each.message}' if each.message else ''}"
        for each in manifest.servable
    }
    return _table("Served by", rows)


def _loading(manifest: Manifest, task: str, labels: list[str]) -> str:
    base, revision = _local_base(manifest)
    model_class = _MODEL_CLASSES[task]
    arguments = [json.dumps(base)]
    if revision:
        arguments.append(f"revision={json.dumps(revision)}")
    if labels:
        arguments.append(f"num_labels={len(labels)}, id2label={dict(enumerate(labels))}")
    peft = (
        "from peft import PeftModel\n"
        f"from transformers import {model_class}\n\n"
        f"base = {model_class}.from_pretrained({', '.join(arguments)})\n"
        'model = PeftModel.from_pretrained(base, "folder-with-this-file")\n'
    )
    blocks = [f"## Loading\n\nWith PEFT:\n\n```python\n{peft}```\n"]
    vllm = next((each for each in manifest.servable if each.engine == "vllm" and each.servable), None)
    if vllm:
        command = _vllm_command(base, revision, vllm.message, manifest.job.name)
        blocks.append(f"With vLLM:\n\n```sh\n{command}\n```\n")
    return "\n".join(blocks)


def _local_base(manifest: Manifest) -> tuple[str, str]:
    """Return what a loader is told of the base: id and revision on the hub, or a copy of the folder."""
    uri = manifest.base_model.uri
    return (base_name(uri), manifest.base_model.revision) if uri.startswith("hf://") else ("folder-with-the-base", "")


def _vllm_command(base: str, revision: str, note: str, name: str) -> str:
    """Return the command that serves the adapter, with the flags that the verdict asks for."""
    words = ["vllm", "serve", base, *(["--revision", revision] if revision else []), "--enable-lora"]
    words += [word for word in note.replace(";", " ").split() if word.startswith("--") or word.isdigit()]
    return " ".join([*words, "--lora-modules", f"{name}=folder-with-this-file"])


def _table(title: str, rows: dict[str, str]) -> str:
    if not rows:
        return ""
    lines = "".join(f"| {name} | {_cell(value)} |\n" for name, value in rows.items())
    return f"## {title}\n\n| | |\n|---|---|\n{lines}"


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
