"""Other forms of an adapter compute what PEFT computes: merged into the base, and as GGUF for llama.cpp."""

import hashlib
import json

import pytest
import torch
import transformers
from gguf import GGUFReader
from safetensors.torch import load_file
from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

from lora_api.artifacts import Manifest, ManifestBaseModel, ManifestDataset, ManifestJob, digest_of
from lora_api.job_file import JobFile
from lora_api.sources import OutputFormat
from lora_trainer.context import Context
from lora_trainer.publish.adapter import save_adapter
from lora_trainer.publish.documents import write_documents
from lora_trainer.publish.forms import publish_forms
from lora_trainer.publish.gguf import FILE, save_gguf
from lora_trainer.publish.merged import save_merged
from lora_trainer.publish.publication import file_entries, publish
from lora_trainer.publish.size import Sizes
from lora_trainer.storage.access import Storage
from lora_trainer.workspace import Workspace
from support.tiny_models import save_tiny_model
from support.training_loop import LABELS, adapted_model, job_spec, logits, train

URI, REVISION = "hf://owner/tiny", "0123abc"


@pytest.fixture(scope="module")
def base_of(tmp_path_factory):
    """Return the folder of a family's model, made once."""
    made = {}

    def get(family: str, dtype=torch.float32):
        if (family, dtype) not in made:
            made[family, dtype] = save_tiny_model(family, tmp_path_factory.mktemp(family), dtype=dtype)
        return made[family, dtype]

    return get


def trained_adapter(base, folder, spec):
    """Train and publish an adapter to a folder: the model in memory, and the config."""
    model = adapted_model(base, spec)
    train(model, spec.task.value)
    return model, save_adapter(model, folder, URI, REVISION)


@pytest.mark.parametrize(
    ("family", "task", "lora"),
    [
        ("llama", "CausalLM", {"rank": 4}),
        ("llama", "CausalLM", {"rank": 4, "doRA": True}),
        ("llama", "CausalLM", {"rank": 4, "alpha": 8, "initialization": "PiSSA"}),
        ("gpt2", "CausalLM", {"rank": 4}),
        ("qwen3_moe", "CausalLM", {"rank": 4}),
        ("bert", "SequenceClassification", {"rank": 4}),
        ("t5", "Seq2SeqLM", {"rank": 4}),
    ],
)
def test_the_merged_model_computes_what_the_adapter_does(base_of, tmp_path, family, task, lora):
    base, spec = base_of(family), job_spec(task, lora=lora)
    model, _ = trained_adapter(base, tmp_path / "adapter", spec)
    labels = LABELS if task == "SequenceClassification" else []
    save_merged(base, tmp_path / "adapter", tmp_path / "merged", spec, labels)
    merged = getattr(transformers, f"AutoModelFor{task}").from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged.eval(), task), logits(model, task), atol=1e-5, rtol=1e-4)


def test_an_adapter_of_a_quantized_base_is_merged_into_the_published_weights(base_of, tmp_path):
    base, spec = base_of("llama", torch.bfloat16), job_spec(quantization={"bits": 4})
    trained_adapter(base, tmp_path / "adapter", spec)
    save_merged(base, tmp_path / "adapter", tmp_path / "merged", spec, [])

    merged, clean = load_file(tmp_path / "merged/model.safetensors"), load_file(base / "model.safetensors")
    weights = load_file(tmp_path / "adapter/adapter_model.safetensors")
    name = "model.layers.0.mlp.up_proj"
    a, b = (weights[f"base_model.model.{name}.lora_{each}.weight"] for each in "AB")
    expected = clean[f"{name}.weight"] + (32 / 4 * b @ a).to(torch.bfloat16)
    assert merged[f"{name}.weight"].dtype is torch.bfloat16
    torch.testing.assert_close(merged[f"{name}.weight"], expected)
    assert torch.equal(merged["model.norm.weight"], clean["model.norm.weight"])


def test_the_merged_folder_is_complete_and_names_no_local_path(base_of, tmp_path):
    base, spec = base_of("bert"), job_spec("SequenceClassification")
    trained_adapter(base, tmp_path / "adapter", spec)
    save_merged(base, tmp_path / "adapter", tmp_path / "merged", spec, LABELS)
    files = {file.name: file for file in (tmp_path / "merged").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= files.keys()
    config = files["config.json"].read_text()
    assert json.loads(config)["id2label"] == {str(index): label for index, label in enumerate(LABELS)}
    assert str(tmp_path) not in config
    assert str(base) not in config
    assert "quantization_config" not in config
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in files.values())


GGUF_CASES = [
    *((family, {"rank": 4}) for family in ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3")),
    ("llama", {"rank": 4, "rsLoRA": True}),
    ("llama", {"rank": 4, "rankPattern": {"q_proj": 2}}),
    ("llama", {"rank": 4, "alpha": 8, "initialization": "OLoRA"}),
]


@pytest.mark.parametrize(("family", "lora"), GGUF_CASES)
def test_a_gguf_adapter_applied_as_llama_cpp_does_computes_what_peft_does(base_of, tmp_path, family, lora):
    base, spec = base_of(family), job_spec(lora=lora)
    model, config = trained_adapter(base, tmp_path, spec)
    base_config = json.loads((base / "config.json").read_text())
    file = save_gguf(tmp_path, tmp_path / "gguf", base_config, config)
    applied = apply_like_llama_cpp(GGUFReader(file), base, base_config)
    torch.testing.assert_close(logits(applied, "CausalLM"), logits(model, "CausalLM"), atol=1e-5, rtol=1e-4)


def apply_like_llama_cpp(reader, base, config):
    """Add alpha / rank * b a of each tensor to the weight of its name, in llama.cpp's order of rows.

    The order is undone by what transformers has for reading models of llama.cpp.
    """
    model = transformers.AutoModelForCausalLM.from_pretrained(base).eval()
    assert field(reader, "general.type") == "adapter"
    assert field(reader, "adapter.type") == "lora"
    alpha = reader.fields["adapter.lora.alpha"].contents()
    tensors = {each.name: torch.tensor(each.data.copy()) for each in reader.tensors}
    order = LlamaTensorProcessor(config) if field(reader, "general.architecture") == "llama" else None
    hugging_face = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj"} | {
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    starts = {name.removesuffix(".weight.lora_a") for name in tensors if name.endswith("lora_a")}
    assert len(tensors) == 2 * len(starts)
    for start in starts:
        _, layer, kind = start.split(".")
        a, b = tensors[f"{start}.weight.lora_a"], tensors[f"{start}.weight.lora_b"]
        delta = alpha / b.shape[1] * b @ a
        if order:
            delta = torch.tensor(order.process(delta.numpy(), f"{start}.weight").weights)
        with torch.no_grad():
            model.get_submodule(f"model.layers.{layer}.{hugging_face[kind]}").weight.add_(delta)
    return model


def field(reader, name):
    """Return a text of the header."""
    return reader.fields[name].contents()


def test_a_gguf_adapter_has_the_same_bytes_each_time(base_of, tmp_path):
    base = base_of("llama")
    _, config = trained_adapter(base, tmp_path, job_spec())
    base_config = json.loads((base / "config.json").read_text())
    written = [save_gguf(tmp_path, tmp_path / name, base_config, config).read_bytes() for name in ("one", "two")]
    assert written[0] == written[1]


@pytest.fixture
def context(bucket, s3_server, tmp_path):
    """A job with both forms, its store and its folders."""
    spec = job_spec(
        output={"uri": f"s3://{bucket}/out", "formats": ["Merged", "GGUF"]},
        storage={"endpoint": s3_server.endpoint, "pathStyle": True},
    )
    job = JobFile(namespace="team-a", name="bot", uid="u-1", run=1, spec=spec)
    return Context(job=job, storage=Storage(spec.storage), workspace=Workspace(tmp_path / "scratch", "run"))


def test_adapter_documents_and_forms_are_published_with_manifests(base_of, context, s3, bucket, tmp_path):
    base, folder, spec = base_of("llama"), tmp_path / "adapter", context.job.spec
    trained_adapter(base, folder, spec)
    manifest = adapter_manifest(file_entries(folder), spec)
    documents = write_documents(
        folder, manifest, Sizes(1000, 10, 4), [{"step": 1, "loss": 2.0}, {"step": 1, "evalLoss": 1.5}], task="CausalLM"
    )
    manifest = manifest.model_copy(update={"documents": documents})
    target = publish(context, folder, manifest)
    again = publish(context, folder, manifest)
    forms = publish_forms(context, base, folder, manifest, [])

    assert target == again
    assert target.uri == f"s3://{bucket}/out/team-a/bot/adapters/{manifest.digest.replace(':', '-')}"
    assert forms.keys() == {OutputFormat.MERGED, OutputFormat.GGUF}
    for kind, place in {
        "Adapter": target,
        "Merged": forms[OutputFormat.MERGED],
        "GGUF": forms[OutputFormat.GGUF],
    }.items():
        stored = Manifest.model_validate_json(context.storage.read(place / "manifest.json"))
        assert stored.kind == kind
        assert stored.digest == digest_of(stored.files)
        assert place.uri.endswith(stored.digest.replace(":", "-"))
        assert stored.adapter == (None if kind == "Adapter" else manifest.digest)
        for entry in [*stored.files, *stored.documents]:
            assert hashlib.sha256(context.storage.read(place / entry.path)).hexdigest() == entry.sha256
    assert [entry.path for entry in documents] == ["README.md", "losses.png"]
    assert [entry.path for entry in manifest.files] == ["adapter_config.json", "adapter_model.safetensors"]
    assert context.storage.read(target / "losses.png").startswith(b"\x89PNG")
    assert context.storage.list_files(forms[OutputFormat.GGUF])[0].path == FILE


def adapter_manifest(files, spec):
    """Return the manifest of a trained adapter."""
    return Manifest(
        kind="Adapter",
        digest=digest_of(files),
        files=files,
        base_model=ManifestBaseModel(name=URI, uri=URI, revision=REVISION),
        dataset=ManifestDataset(uri="s3://data/train.jsonl", digest="sha256:ef", rows=20, validation_rows=5),
        job=ManifestJob(namespace="team-a", name="bot", uid="u-1", run=1),
        lora=spec.lora.wire(),
        training={},
        metrics={"evalLoss": 1.5},
        seed=42,
        step=3,
        versions={"peft": "0.21"},
        created_time="2026-11-24T00:00:00Z",
    )
