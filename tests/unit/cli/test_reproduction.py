"""`reproduce`: the spec that trained an adapter, found again, and proved where there is a report."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_api.lorajob import LoRAJobSpec
from lora_cli import main
from lora_cli.job import read_job
from lora_cli.reproduction import reproduce
from unit.cli.artifacts import SPEC, manifest_of, report_of, write_artifact

URI = "s3://models/prefix/team-a/bot/adapters/sha256-ab"


def changed(**fields: Any) -> dict[str, Any]:
    return SPEC | fields


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        changed(baseModel={"uri": "s3://models/base"}),
        changed(baseModel={"uri": "hf://owner/base", "revision": "c" * 40}),
        changed(
            dataset={"train": {"uri": "s3://data/a.jsonl", "weight": 2}, "validation": {"uri": "s3://data/b.jsonl"}}
        ),
        changed(quantization={"bits": 4}),
        changed(training={"epochs": 3, "packing": False, "checkpoint": {"every": 10}}),
    ],
)
def test_the_digest_of_the_report_proves_the_spec(spec: dict[str, Any]) -> None:
    made = reproduce(manifest_of([], spec), URI, "CAUSAL_LM", report_of(spec))
    assert made.proved
    again, trained = made.document["spec"], LoRAJobSpec.model_validate(spec)
    # A hub model is asked for at its commit, which is the one field that may differ.
    unpinned = again | {"baseModel": spec["baseModel"]}
    assert LoRAJobSpec.model_validate(unpinned).result_digest() == trained.result_digest()


def test_a_hub_model_is_pinned_to_its_commit_and_a_folder_is_not() -> None:
    assert reproduce(manifest_of([]), URI).document["spec"]["baseModel"]["revision"] == "c" * 40
    folder = manifest_of([], changed(baseModel={"uri": "s3://models/base"}))
    assert "revision" not in reproduce(folder, URI).document["spec"]["baseModel"]


@pytest.mark.parametrize(
    ("task_type", "metrics", "task", "objective"),
    [
        ("CAUSAL_LM", {}, "CausalLM", None),
        ("SEQ_CLS", {}, "SequenceClassification", None),
        ("TOKEN_CLS", {}, "TokenClassification", None),
        ("SEQ_2_SEQ_LM", {}, "Seq2SeqLM", None),
        ("CAUSAL_LM", {"rewardAccuracy": 0.9}, "CausalLM", "DPO"),
    ],
)
def test_the_task_comes_from_the_adapter(task_type: str, metrics: dict[str, float], task: str, objective: str) -> None:
    spec = reproduce(manifest_of([], metrics=metrics), URI, task_type).document["spec"]
    assert (spec["task"], spec.get("objective")) == (task, objective)


def test_what_is_not_proved_is_to_be_checked() -> None:
    made = reproduce(manifest_of([]), "/tmp/somewhere", storage={"pathStyle": True})
    assert not made.proved
    assert [each.split(":")[0] for each in made.notes if each.startswith("CHECK")] == [
        "CHECK dataset.validation",
        "CHECK output.uri",
    ]
    assert made.document["spec"]["dataset"]["validation"] == {"fraction": 0.05}
    assert made.document["spec"]["storage"] == {"pathStyle": True}


def test_the_command_writes_a_file_that_run_and_submit_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_artifact(tmp_path / "out")
    assert main.run(["reproduce", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "# the digest of the spec in report.json" not in text  # its output was another one
    path = tmp_path / "again.yaml"
    path.write_text(text)
    job = read_job(path)
    assert (job.namespace, job.name, job.spec.training.seed) == ("team-a", "bot", 7)
    assert yaml.safe_load(text)["spec"]["output"] == {"uri": f"file://{tmp_path}/out"}
