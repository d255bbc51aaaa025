"""The YAML of a LoRAJob: read as the cluster reads it, and every mistake named as the file has it."""

from pathlib import Path

import pytest
import yaml

from lora_api.exit_codes import ExitCode
from lora_api.job_file import JobFile
from lora_cli.errors import CliError
from lora_cli.job import read_job, read_jobs
from support.contradictory import CASES, Case
from support.specs import SMALLEST, with_field

SAMPLE = Path(__file__).parents[3] / "manifests/samples/lorajob.yaml"
HEAD = "apiVersion: lora-operator.io/v1alpha1\nkind: LoRAJob\nmetadata: {name: bot}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def with_spec(folder: Path, spec: object) -> Path:
    return write(folder, HEAD + yaml.safe_dump({"spec": spec}))


def refused(path: Path) -> str:
    with pytest.raises(CliError) as caught:
        read_job(path)
    assert caught.value.exit_code == ExitCode.INVALID_REQUEST
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def test_the_sample_of_the_cluster_is_read_as_it_is() -> None:
    job = read_job(SAMPLE)
    assert (job.namespace, job.name, job.run, job.uid) == ("default", "support-bot", 1, "")
    assert job.spec.training.max_steps == 30
    assert JobFile.model_validate_json(job.encode()) == job


def test_the_namespace_of_the_file_counts_and_the_command_line_wins(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD.replace("{name: bot}", "{name: bot, namespace: team-a}") + f"spec: {SMALLEST}")
    assert read_job(path).namespace == "team-a"
    assert read_job(path, namespace="team-b").namespace == "team-b"


def test_output_and_gpus_can_be_replaced_and_nothing_else_changes(tmp_path: Path) -> None:
    spec = with_field("resources", {"gpus": 4, "memory": "8Gi"}, with_field("output.formats", ["GGUF"]))
    job = read_job(with_spec(tmp_path, spec), output="file:///home/me/out", cpu=True)
    assert job.spec.output.wire() == {"uri": "file:///home/me/out", "formats": ["GGUF"]}
    assert (job.spec.resources.gpus, job.spec.resources.memory) == (0, "8Gi")
    assert read_job(with_spec(tmp_path, spec)).spec.resources.gpus == 4


def test_files_of_this_machine_are_accepted(tmp_path: Path) -> None:
    spec = with_field("dataset.train.uri", "file:///data/rows.jsonl", with_field("baseModel.uri", "file:///models/a"))
    assert read_job(with_spec(tmp_path, spec)).spec.dataset.train.uri == "file:///data/rows.jsonl"


def test_values_are_those_that_kubectl_would_send(tmp_path: Path) -> None:
    spec = "baseModel: {uri: 'hf://a/b', revision: 2024-05-01}\n  dataset: {train: {uri: 's3://data/a.jsonl'}}\n"
    spec += "  output: {uri: 's3://adapters'}\n  training: {learningRate: 1e-4}"
    job = read_job(write(tmp_path, f"{HEAD}spec:\n  {spec}"))
    assert job.spec.base_model.revision == "2024-05-01"
    assert job.spec.training.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("lora.rank", 0, "spec.lora.rank: Input should be greater than or equal to 1, and not '0'"),
        ("lora.targetModule", ["q"], "spec.lora.targetModule: there is no such field; did you mean targetModules?"),
        ("training.learningRate", "fast", "spec.training.learningRate: Input should be a valid number"),
        ("baseModel.uri", "ftp://a/b", "spec.baseModel.uri: write hf://owner/name, s3://bucket/path"),
        ("training.frobnicate", 1, "spec.training.frobnicate: there is no such field; there are epochs, maxSteps,"),
        ("pod.env", [{"name": "1", "value": "x"}], "spec.pod.env.0.name: String should match pattern"),
        ("dataset.train", {}, "spec.dataset.train.uri: Field required"),
    ],
)
def test_a_wrong_value_is_named_by_its_path_in_the_file(tmp_path: Path, field: str, value: object, words: str) -> None:
    assert refused(with_spec(tmp_path, with_field(field, value))).startswith(words)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_contradiction_is_named_before_anything_is_sent(tmp_path: Path, case: Case) -> None:
    said = refused(with_spec(tmp_path, SMALLEST | case.change))
    assert said.startswith(case.field)
    assert case.fix in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it holds 0 documents; name a file with one LoRAJob"),
        (f"{HEAD}---\n{HEAD}", "it holds 2 documents"),
        ("kind: [", "it is no YAML: line 1, column"),
        ("just words", "it holds no LoRAJob of lora-operator.io/v1alpha1"),
        ("apiVersion: v1\nkind: ConfigMap\n", "it holds no LoRAJob"),
        (HEAD, "spec is missing"),
        (f"{HEAD}data: {{}}\nspec: {{}}", "data: there is no such field"),
        (HEAD.replace("bot", "Bot"), "metadata.name: 'Bot' is no name of a LoRAJob"),
        (HEAD.replace("{name: bot}", "{name: bot, namespace: a/b}") + "spec: {}", "metadata.namespace: 'a/b'"),
    ],
)
def test_what_is_no_lorajob_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    assert refused(write(tmp_path, text)).startswith(words)


def test_many_faults_are_counted(tmp_path: Path) -> None:
    spec = SMALLEST | dict.fromkeys("abcdefg", 1)
    assert refused(with_spec(tmp_path, spec)).endswith("; and 2 more")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"none\.yaml: No such file"):
        read_job(tmp_path / "none.yaml")


def test_several_jobs_of_a_file_keep_what_was_written_and_take_the_namespace_of_the_context(tmp_path: Path) -> None:
    other = HEAD.replace("{name: bot}", "{name: two, namespace: team-b}")
    jobs = read_jobs(write(tmp_path, f"{HEAD}spec: {SMALLEST}\n---\n{other}spec: {SMALLEST}"), "team-a")
    assert [(each.job.namespace, each.job.name) for each in jobs] == [("team-a", "bot"), ("team-b", "two")]
    assert jobs[0].document["spec"] == SMALLEST  # no default is written out


def test_a_value_of_the_environment_is_never_repeated(tmp_path: Path) -> None:
    said = refused(with_spec(tmp_path, with_field("pod.env", [{"name": "KEY", "value": "s3cret" * 1000}])))
    assert "s3cret" not in said
