"""`reproduce`: the request of the manifest, pinned. Without one the spec is guessed, and a report may prove it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_api.artifacts import Manifest, ManifestRequest
from lora_api.lorajob import LoRAJobSpec
from lora_cli import main
from lora_cli.commands.reproduce import installed_versions
from lora_cli.job import read_job
from lora_cli.reproduction import Origin, Reproduction, reproduce
from unit.cli.artifacts import SPEC, earlier_manifest, manifest_of, report_of, write_artifact

URI = "s3://models/prefix/team-a/bot/adapters/sha256-ab"


def changed(**fields: Any) -> dict[str, Any]:
    return SPEC | fields


def checks(made: Reproduction) -> list[str]:
    return [each.removeprefix("CHECK ") for each in made.notes if each.startswith("CHECK ")]


def place_of(manifest: Manifest) -> str:
    return f"s3://models/prefix/team-a/bot/adapters/{manifest.digest.replace(':', '-')}"


SPECS = [
    SPEC,
    changed(baseModel={"uri": "s3://models/base"}),
    changed(baseModel={"uri": "hf://owner/base", "revision": "c" * 40}),
    changed(dataset={"train": {"uri": "s3://data/a.jsonl", "weight": 2}, "validation": {"uri": "s3://data/b.jsonl"}}),
    changed(quantization={"bits": 4}),
    changed(training={"epochs": 3, "packing": False, "checkpoint": {"every": 10}}),
]
OUT_OF_REACH_OF_A_GUESS = [
    changed(baseModel={"uri": "s3://models/base", "revision": "v1"}),
    changed(dataset={"train": {"uri": "s3://data/a.jsonl", "format": "Text", "columns": {"text": "body"}}}),
    changed(
        dataset={"train": {"uri": "s3://data/a"}, "mixture": [{"uri": "s3://data/b", "weight": 0.5}]},
        evaluation={"metrics": ["perplexity"], "gate": {"metric": "evalLoss"}, "retention": {"uri": "s3://data/c"}},
    ),
    changed(output={"uri": "s3://models/prefix", "formats": ["Merged"]}),
    changed(task="SequenceClassification", baseModel={"uri": "hf://owner/base", "cacheClaimName": "bases"}),
    changed(objective="DPO", training={"preference": {"beta": 0.2, "loss": "IPO"}}),
]


def unpinned(made: Reproduction, spec: dict[str, Any]) -> str:
    """Return the digest of a reproduction; a hub model is asked for at its commit, the one field that may differ."""
    again = made.document["spec"]
    revision = spec["baseModel"].get("revision", "main")
    base = again["baseModel"] | {"revision": revision}
    return LoRAJobSpec.model_validate(again | {"baseModel": base}).result_digest()


@pytest.mark.parametrize("spec", SPECS + OUT_OF_REACH_OF_A_GUESS)
def test_the_request_of_the_manifest_is_what_was_trained(spec: dict[str, Any]) -> None:
    made = reproduce(manifest_of([], spec), URI)
    assert made.origin is Origin.REQUEST
    assert unpinned(made, spec) == LoRAJobSpec.model_validate(spec).result_digest()


@pytest.mark.parametrize("spec", SPECS)
def test_without_a_request_the_digest_of_the_report_proves_a_guess(spec: dict[str, Any]) -> None:
    made = reproduce(earlier_manifest(spec), URI, "CAUSAL_LM", report_of(spec))
    assert made.origin is Origin.REPORT
    assert unpinned(made, spec) == LoRAJobSpec.model_validate(spec).result_digest()


@pytest.mark.parametrize("spec", OUT_OF_REACH_OF_A_GUESS)
def test_a_guess_that_the_report_does_not_prove_stays_one(spec: dict[str, Any]) -> None:
    made = reproduce(earlier_manifest(spec), URI, "CAUSAL_LM", report_of(spec))
    assert made.origin is Origin.GUESS


@pytest.mark.parametrize("manifest", [manifest_of, lambda _, spec=None: earlier_manifest(spec)])
def test_a_hub_model_is_pinned_to_its_commit_and_a_folder_is_not(manifest: Any) -> None:
    assert reproduce(manifest([]), URI).document["spec"]["baseModel"]["revision"] == "c" * 40
    folder = manifest([], changed(baseModel={"uri": "s3://models/base"}))
    assert reproduce(folder, URI).document["spec"]["baseModel"].get("revision", "main") == "main"


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
def test_a_guess_takes_the_task_from_the_adapter(
    task_type: str, metrics: dict[str, float], task: str, objective: str
) -> None:
    spec = reproduce(earlier_manifest(metrics=metrics), URI, task_type).document["spec"]
    assert (spec["task"], spec.get("objective")) == (task, objective)


def test_a_guess_says_so_and_what_to_check() -> None:
    made = reproduce(earlier_manifest(), "/tmp/somewhere", storage={"pathStyle": True})
    assert made.origin is Origin.GUESS
    assert any("holds no request: what it leaves open is guessed as the default" in each for each in made.notes)
    assert [each.split(":")[0] for each in checks(made)] == ["dataset.validation", "output.uri", "pod.image"]
    assert made.document["spec"]["dataset"]["validation"] == {"fraction": 0.05}
    assert made.document["spec"]["storage"] == {"pathStyle": True}


def test_what_was_withheld_is_to_be_filled_in() -> None:
    base = {"uri": "hf://owner/base", "tokenSecretRef": {"name": "hub"}}
    spec = changed(baseModel=base, dataset={"train": {"uri": "https://files.example/a.jsonl?signature=x"}})
    manifest = manifest_of([], spec)
    made = reproduce(manifest, place_of(manifest))
    assert [each.split(":")[0] for each in checks(made)] == [
        "baseModel.tokenSecretRef",
        "dataset.train.uri",
        "pod.image",
    ]
    assert made.document["spec"]["dataset"]["train"]["uri"] == "https://files.example/a.jsonl"
    assert "signature" not in str(made) + manifest.model_dump_json()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s3://models/prefix/team-a/bot/adapters/DIGEST", []),
        ("s3://replica/prefix/team-a/bot/adapters/DIGEST", ["output.uri"]),
        ("/tmp/downloaded", []),
    ],
)
def test_an_adapter_that_lies_elsewhere_is_said(place: str, said: list[str]) -> None:
    manifest = manifest_of([]).model_copy(update={"job": manifest_of([]).job.model_copy(update={"image": ""})})
    made = reproduce(manifest, place.replace("DIGEST", manifest.digest.replace(":", "-")))
    assert [each.split(":")[0] for each in checks(made)] == said
    assert made.document["spec"]["output"]["uri"] == "s3://models/prefix"


def test_places_of_one_machine_are_said() -> None:
    spec = changed(baseModel={"uri": "file:///models/base"}, output={"uri": "file:///out"})
    assert any(
        each.startswith("baseModel.uri, output.uri: file://") for each in checks(reproduce(manifest_of([], spec), URI))
    )


@pytest.mark.parametrize(
    ("here", "said"),
    [
        ({}, []),
        ({"torch": "2.13", "python": "3.11"}, []),
        (
            {"torch": "2.14", "python": "3.12"},
            ["versions: it was trained with python 3.11 (here 3.12), torch 2.13 (here 2.14)"],
        ),
    ],
)
def test_other_libraries_and_the_image_are_one_line_each(here: dict[str, str], said: list[str]) -> None:
    manifest = manifest_of([])
    image = "pod.image: it was trained by trainer:1; name it if the operator's default is another"
    assert checks(reproduce(manifest, place_of(manifest), versions=here)) == [*said, image]


def test_without_the_trainer_only_the_release_is_compared() -> None:
    names = {"python": "3.11", "pydantic": "2", "lora-operator": "0.1.0", "no-such-distribution": "1", "": "1"}
    assert installed_versions(names, complete=False).keys() == {"lora-operator"}
    assert installed_versions(names, complete=True).keys() == {"python", "pydantic", "lora-operator"}


def test_a_request_of_another_version_is_written_with_what_is_wrong_in_it() -> None:
    later = {"lora": {"rank": 8, "magic": True}, "curriculum": {"steps": 2}, "baseModel": "later"}
    request = manifest_of([]).request
    assert request is not None
    manifest = manifest_of([], request=ManifestRequest(spec=request.spec | later))
    made = reproduce(manifest, place_of(manifest))
    assert [each.split(";")[0] for each in checks(made)][:3] == [
        "curriculum: left out: this kubectl-lora does not know it as a field that decides the result",
        "spec.baseModel: Input should be a valid dictionary or instance of BaseModelSource, and not 'later'",
        "spec.lora.magic: there is no such field",
    ]
    assert made.document["spec"]["lora"] == later["lora"]


def test_a_manifest_that_was_tampered_with_adds_no_pod_and_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request, job = manifest_of([]).request, manifest_of([]).job
    assert request is not None
    evil = ManifestRequest(spec=request.spec | {"pod": {"image": "evil/image"}}, withheld=["a\nspec: {suspend: true}"])
    folder = write_artifact(tmp_path, request=evil, job=job.model_copy(update={"image": "x\nstatus: {}\u2028y: z"}))
    assert main.run(["reproduce", str(folder)]) == 0
    written = yaml.safe_load(capsys.readouterr().out)
    assert written.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert written["spec"].keys() & {"pod", "suspend"} == set()


def test_the_command_writes_a_file_that_run_and_submit_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_artifact(tmp_path / "out")
    assert main.run(["reproduce", str(folder)]) == 0
    path = tmp_path / "again.yaml"
    path.write_text(capsys.readouterr().out)
    job = read_job(path)
    assert (job.namespace, job.name) == ("team-a", "bot")
    pinned = changed(baseModel={"uri": "hf://owner/base", "revision": "c" * 40})
    assert job.spec == LoRAJobSpec.model_validate(pinned)


def test_the_command_guesses_for_an_adapter_of_an_earlier_trainer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_artifact(tmp_path / "out", request=None)
    assert main.run(["reproduce", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "# the manifest is of an earlier trainer and holds no request" in text
    assert "# the digest of the spec in report.json" not in text  # its output was another one
    path = tmp_path / "again.yaml"
    path.write_text(text)
    assert read_job(path).spec.training.seed == 7
    assert yaml.safe_load(text)["spec"]["output"] == {"uri": f"file://{tmp_path}/out"}
