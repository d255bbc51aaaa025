"""Data in a real S3: patterns, folders and mixtures, and prepared sets that no second job prepares again."""

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from transformers import AutoTokenizer

from lora_api.exit_codes import ExitCode
from lora_api.job_file import JobFile
from lora_trainer.context import Context
from lora_trainer.data import cache, dataset
from lora_trainer.data.cache import PreparedStore
from lora_trainer.data.dataset import TokenizerFacts, load_data
from lora_trainer.data.tokens import ChatTokenizer
from lora_trainer.errors import TrainerError
from lora_trainer.signals import InterruptionError, StopSignal
from lora_trainer.storage.access import Storage
from lora_trainer.workspace import Workspace

from .conftest import conversations, keys, put_rows

VERSIONS = {"transformers": "5"}
PREPARED = "out/team-a/.prepared/"


@pytest.fixture(scope="module")
def facts(tiny_base):
    return TokenizerFacts(AutoTokenizer.from_pretrained(tiny_base), tiny_base, (), 512)


@pytest.fixture
def load(job, facts, tmp_path):
    """Read the data of a job; another name is another job."""

    def run(name="bot", *, versions=VERSIONS, **blocks):
        made = JobFile.model_validate_json(job(name, **blocks).read_text())
        context = Context(made, Storage(made.spec.storage), Workspace(tmp_path / "scratch", name))
        return load_data(context, facts, versions)

    return run


@pytest.fixture
def prepared_sets(monkeypatch):
    """The fields of the sets that are parsed and tokenised, as they come."""
    seen = []
    prepare = dataset.prepare_set
    monkeypatch.setattr(
        dataset, "prepare_set", lambda source, *args: seen.append(source.field) or prepare(source, *args)
    )
    return seen


@pytest.fixture
def encoded_texts(monkeypatch):
    """The number of texts that the tokenizer is given, call by call."""
    seen = []
    encode = ChatTokenizer.encode
    monkeypatch.setattr(ChatTokenizer, "encode", lambda self, texts: seen.append(len(texts)) or encode(self, texts))
    return seen


def rows_of(examples):
    return [{name: values.tolist() for name, values in examples[index].items()} for index in range(len(examples))]


def put(s3, bucket, key, content):
    s3.put_object(Bucket=bucket, Key=key, Body=content)


def parquet_of(rows):
    content = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), content)
    return content.getvalue()


def test_patterns_folders_and_kinds_of_files_are_mixed_by_weight(s3, bucket, load):
    put_rows(s3, bucket, conversations(4), "support/2025/a.jsonl")
    put(s3, bucket, "support/2026/b.parquet", parquet_of(conversations(10)[4:]))
    put(s3, bucket, "support/notes.txt", b"not data")
    put(s3, bucket, "qa/a.csv", b"question,answer\nOne?,1\nTwo?,2\nThree?,3\nFour?,4\n")
    uri = f"s3://{bucket}"
    mixture = [
        {
            "uri": f"{uri}/qa/",
            "weight": 1.5,
            "columns": {"prompt": "question", "completion": "answer"},
        }
    ]
    data = load(dataset={"train": {"uri": f"{uri}/support/**/*.*"}, "mixture": mixture})
    files = [[(file.name, file.rows) for file in each.prepared.facts.files] for each in data.train_sets]
    assert files == [[("2025/a.jsonl", 4), ("2026/b.parquet", 6)], [("a.csv", 4)]]
    assert [each.prepared.facts.format.value for each in data.train_sets] == ["Messages", "PromptCompletion"]
    assert len(data.epoch) == 10 + 4 + 2
    assert len(data.train.examples) == 14


def test_a_second_job_neither_parses_nor_tokenises(s3, bucket, load, prepared_sets, encoded_texts, caplog):
    first = load("first")
    assert prepared_sets == ["spec.dataset.train"]
    assert sorted(key.rpartition("/")[2] for key in keys(s3, bucket, PREPARED)) == ["data.safetensors", "manifest.json"]
    encoded_texts.clear()
    second = load("second")
    assert prepared_sets == ["spec.dataset.train"]
    assert encoded_texts == []
    assert rows_of(second.epoch) == rows_of(first.epoch)
    assert rows_of(second.validation.examples) == rows_of(first.validation.examples)
    assert second.train_sets[0].prepared.facts == first.train_sets[0].prepared.facts


def test_each_set_of_a_mixture_is_prepared_once(s3, bucket, load, prepared_sets):
    put_rows(s3, bucket, conversations(40)[30:], "more.jsonl")
    train, more = ({"uri": f"s3://{bucket}/{name}.jsonl"} for name in ("train", "more"))
    load("first", dataset={"train": train})
    load("second", dataset={"train": train, "mixture": [more]})
    load("third", dataset={"train": more | {"weight": 0.5}, "validation": train})
    assert prepared_sets == ["spec.dataset.train", "spec.dataset.mixture[0]"]


def test_whatever_decides_what_rows_become_prepares_them_anew(s3, bucket, load, prepared_sets):
    load()
    put_rows(s3, bucket, conversations(26))
    load()
    load(versions={"transformers": "6"})
    load(dataset={"train": {"uri": f"s3://{bucket}/train.jsonl", "format": "Messages"}})
    assert len(prepared_sets) == 4
    load()
    assert len(prepared_sets) == 4


def damage_data(s3, bucket, key):
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    put(s3, bucket, key, body[:-1] + bytes([body[-1] ^ 1]))


def cut(s3, bucket, key):
    put(s3, bucket, key, s3.get_object(Bucket=bucket, Key=key)["Body"].read()[:-10])


def forge(s3, bucket, key):
    manifest = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    put(s3, bucket, key, json.dumps(manifest | {"files": []}).encode())


def delete(s3, bucket, key):
    s3.delete_object(Bucket=bucket, Key=key)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("data.safetensors", damage_data),
        ("data.safetensors", cut),
        ("data.safetensors", delete),
        ("manifest.json", cut),
        ("manifest.json", forge),
        ("manifest.json", delete),
    ],
)
def test_what_is_damaged_is_ignored_and_made_anew(name, harm, s3, bucket, load, prepared_sets):
    before = load()
    key = next(key for key in keys(s3, bucket, PREPARED) if key.endswith(name))
    harm(s3, bucket, key)
    assert rows_of(load().epoch) == rows_of(before.epoch)
    assert len(prepared_sets) == 2
    load()
    assert len(prepared_sets) == 2


@pytest.mark.parametrize("method", ["upload", "create", "read_if_there"])
def test_a_store_that_fails_costs_time_and_nothing_else(method, load, prepared_sets, monkeypatch):
    def fail(*_):
        raise TrainerError(ExitCode.NO_PERMISSION, "refused")

    monkeypatch.setattr(Storage, method, fail)
    assert len(load().epoch) == 20
    load()
    assert len(prepared_sets) == 2


@pytest.mark.parametrize("method", ["upload", "create", "download"])
def test_a_signal_leaves_nothing_half_written_that_is_believed(method, s3, bucket, load, prepared_sets, monkeypatch):
    def stopped(*_):
        StopSignal().request("SIGTERM")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, method, stopped)
        with pytest.raises(InterruptionError):
            load()
    assert not [key for key in keys(s3, bucket, PREPARED) if key.endswith("manifest.json")]
    assert len(load().epoch) == 20


WORDS = {"tokens": ["Ada", "lives"], "tags": ["B-PER", "O"]}
TASKS = [
    ({"objective": "DPO"}, {"prompt": "Hi", "chosen": "Hello.", "rejected": "No."}, "chosen_labels"),
    ({"task": "Seq2SeqLM"}, {"source": "Hi", "target": "Bye"}, "target_ids"),
    ({"task": "SequenceClassification"}, {"text": "Hi", "label": 1}, "labels"),
    ({"task": "TokenClassification"}, WORDS, "labels"),
    ({}, {"text": "Once upon a time."}, "labels"),
    ({}, {"instruction": "Add", "input": "1, 2", "output": "3"}, "labels"),
]


@pytest.mark.parametrize(("task", "row", "column"), TASKS)
def test_every_task_has_its_examples_and_finds_them_again(task, row, column, s3, bucket, load, prepared_sets):
    other = row | {key: 0 for key in ("label",) if key in row}
    put_rows(s3, bucket, [row, other], "task.jsonl")
    put_rows(s3, bucket, [row], "general.jsonl")
    source, general = ({"uri": f"s3://{bucket}/{name}.jsonl"} for name in ("task", "general"))
    blocks = task | {"dataset": {"train": source}, "evaluation": {"retention": general}}
    data, again = load(**blocks), load("again", **blocks)
    assert prepared_sets == ["spec.dataset.train", "spec.evaluation.retention"]
    assert column in data.epoch.columns
    assert rows_of(again.epoch) == rows_of(data.epoch)
    assert rows_of(data.retention) == rows_of(data.epoch)[:1]
    assert data.labels == {"SequenceClassification": ["0", "1"], "TokenClassification": ["B-PER", "O"]}.get(
        task.get("task"), []
    )


def test_rows_that_are_refused_are_not_stored(s3, bucket, load):
    put_rows(s3, bucket, [*conversations(3), {"messages": []}])
    with pytest.raises(TrainerError, match=r"train\.jsonl row 4: messages is an empty list"):
        load()
    assert keys(s3, bucket, PREPARED) == []


def test_a_set_reads_back_as_it_was_stored(load, tmp_path, job):
    prepared = load().train_sets[0].prepared
    storage = Storage(JobFile.model_validate_json(job().read_text()).spec.storage)
    store = PreparedStore(storage, cache.Location(f"file://{tmp_path}/store", "spec.output.uri"), tmp_path)
    store.save("a" * 64, prepared)
    found = store.load("a" * 64)
    assert found.facts == prepared.facts
    assert np.array_equal(found.digests, prepared.digests)
    assert rows_of(found.examples) == rows_of(prepared.examples)
    assert store.load("b" * 64) is None
