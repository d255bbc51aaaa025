"""The model card says what the manifest proves, and the plot shows the history."""

import pytest

from lora_api.artifacts import FileEntry, Manifest, ManifestBaseModel, ManifestDataset, ManifestJob, digest_of
from lora_api.messages import Servability
from lora_trainer.publish.card import card
from lora_trainer.publish.documents import losses, write_documents
from lora_trainer.publish.size import Sizes, adapter_bytes, full_bytes

FILES = [FileEntry(path="adapter_model.safetensors", size=3, sha256="a" * 64)]
MANIFEST = Manifest(
    kind="Adapter",
    digest=digest_of(FILES),
    files=FILES,
    base_model=ManifestBaseModel(name="hf://owner/name", uri="hf://owner/name", revision="0123abc"),
    dataset=ManifestDataset(uri="s3://data/train.jsonl", digest="sha256:ef", rows=950, validation_rows=50, tokens=7000),
    job=ManifestJob(namespace="team-a", name="support-bot", uid="u-1", run=2),
    lora={"rank": 32, "alpha": 32, "targetModules": ["q_proj", "v_proj"]},
    training={},
    metrics={"trainLoss": 1.25, "evalLoss": 1.5},
    seed=42,
    step=118,
    versions={"peft": "0.21.2", "torch": "2.13"},
    servable=[
        Servability(engine="vllm", servable=True, message="needs --max-lora-rank 32"),
        Servability(engine="sglang", servable=False, message="rsLoRA is ignored without a word"),
    ],
    created_time="2026-11-24T00:00:00Z",
)
SIZES = Sizes(parameters=1_000_000_000, trainable=5_000_000, base_bytes_per_value=2)
HISTORY = [
    {"step": 0, "evalLoss": 3.0},
    {"step": 1, "loss": 2.5, "gradNorm": 1.0},
    {"step": 2, "loss": 2.0},
    {"step": 2, "evalLoss": 2.2},
    {"step": 2, "retentionLoss": 1.0},
]


@pytest.mark.parametrize(
    "words",
    [
        'base_model: "owner/name"',
        "hf://owner/name, revision 0123abc",
        "s3://data/train.jsonl, sha256:ef",
        "950 trained on, 50 validated on",
        "| evalLoss | 1.5 |",
        "| rank | 32 |",
        '| targetModules | ["q_proj", "v_proj"] |',
        "5,000,000 of 1,000,000,000 weights were trained, 0.500%",
        "The adapter takes 20.0 MB; a full copy of the model for this task would take 2,000.0 MB, 100 times as much",
        "| vllm | yes: needs --max-lora-rank 32 |",
        "| sglang | no: rsLoRA is ignored without a word |",
        'AutoModelForCausalLM.from_pretrained("owner/name", revision="0123abc")',
        "vllm serve owner/name --revision 0123abc --enable-lora --max-lora-rank 32 --lora-modules support-bot=",
        "![losses of training and evaluation](losses.png)",
    ],
)
def test_the_card_says_where_the_adapter_comes_from_and_how_to_load_it(words):
    assert words in card(MANIFEST, SIZES, "CausalLM", [])


def test_the_card_of_a_classification_names_its_labels_in_the_order_of_their_ids():
    text = card(MANIFEST, SIZES, "SequenceClassification", ["billing", "praise"])
    assert "AutoModelForSequenceClassification" in text
    assert "num_labels=2, id2label={0: 'billing', 1: 'praise'}" in text


def test_the_card_names_no_engine_that_cannot_load_the_adapter():
    refused = [Servability(engine="vllm", servable=False, message="DoRA is not served")]
    assert "vllm serve" not in card(MANIFEST.model_copy(update={"servable": refused}), SIZES, "CausalLM", [])


def test_a_base_outside_the_hub_is_loaded_from_a_local_copy():
    base = ManifestBaseModel(name="s3://models/base", uri="s3://models/base", revision="sha256:ab")
    text = card(MANIFEST.model_copy(update={"base_model": base}), SIZES, "CausalLM", [])
    assert 'from_pretrained("folder-with-the-base")' in text
    assert "vllm serve folder-with-the-base --enable-lora" in text


def test_the_plot_has_both_losses():
    assert losses(HISTORY) == (([1, 2], [2.5, 2.0]), ([0, 2], [3.0, 2.2]))


def test_documents_are_written_and_listed(tmp_path):
    entries = write_documents(tmp_path, MANIFEST, SIZES, HISTORY, task="CausalLM")
    assert [entry.path for entry in entries] == ["README.md", "losses.png"]
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert all((tmp_path / entry.path).stat().st_size == entry.size for entry in entries)
    assert all((tmp_path / entry.path).stat().st_mode & 0o777 == 0o644 for entry in entries)


def test_the_same_history_gives_the_same_plot(tmp_path):
    written = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_documents(tmp_path / name, MANIFEST, SIZES, HISTORY, task="CausalLM")
        written.append((tmp_path / name / "losses.png").read_bytes())
    assert written[0] == written[1]


def test_a_run_without_evaluation_has_a_plot_too(tmp_path):
    assert len(write_documents(tmp_path, MANIFEST, SIZES, HISTORY[1:3], task="CausalLM")) == 2


def test_sizes_are_bytes_of_float32_adapters_and_of_bases_as_they_are():
    assert (adapter_bytes(1_000), full_bytes(1_000, 2)) == (4_000, 2_000)
    assert (SIZES.adapter, SIZES.full, SIZES.trainable_share) == (20_000_000, 2_000_000_000, 0.005)
