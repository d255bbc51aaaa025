"""Every kind of file gives the same rows, and every broken one is named with its fault and never with its content."""

import gzip
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from lora_api.exit_codes import ExitCode
from lora_api.lorajob import LoRAJobSpec
from lora_api.sources import Storage as StorageSpec
from lora_trainer.data.files import digest_of_files, fetch_files
from lora_trainer.data.prepare import prepare_set
from lora_trainer.data.source import sources_of
from lora_trainer.data.tokens import ChatTokenizer
from lora_trainer.errors import TrainerError
from lora_trainer.storage.access import Storage
from support.specs import SMALLEST
from unit.trainer import tiny_tokenizer as tiny

SECRET = "zebra-stripes"
TEXTS = [{"prompt": "What is it?", "completion": SECRET}, {"prompt": "And?", "completion": '"Quoted", and a\nline.'}]
CHATS = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": SECRET}]}]


@pytest.fixture(scope="module")
def tokenizer():
    return ChatTokenizer(tiny.tiny_tokenizer(tiny.CHATML, tiny.CHATML_SPECIALS, "<|im_end|>"))


@pytest.fixture
def read(tmp_path, tokenizer):
    """Prepare what lies in the data folder: the set and the digest of its files."""

    def run(uri="", **settings):
        train = {"uri": f"file://{tmp_path}/data/{uri}"} | settings
        spec = LoRAJobSpec.model_validate(SMALLEST | {"dataset": {"train": train}}, context={"local": True})
        source = sources_of(spec).train[0]
        target = tmp_path / "scratch"
        target.mkdir(exist_ok=True)
        files = fetch_files(Storage(StorageSpec()), source.location, target)
        return prepare_set(source, files, spec, tokenizer), digest_of_files(files)

    return run


@pytest.fixture
def put(tmp_path):
    """Write a file into the data folder."""

    def run(name, content):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return run


def lines(rows):
    return "\n".join(json.dumps(row) for row in rows)


def table(rows, delimiter=","):
    quoted = [[str(cell).replace('"', '""') for cell in row.values()] for row in rows]
    header = delimiter.join(rows[0])
    return "\n".join([header, *[delimiter.join(f'"{cell}"' for cell in row) for row in quoted]])


def contents(prepared):
    return [prepared.examples[index]["input_ids"].tolist() for index in range(len(prepared.examples))]


KINDS = {
    "a.jsonl": lambda rows, path: path.write_text(lines(rows)),
    "a.ndjson": lambda rows, path: path.write_text(lines(rows) + "\n\n"),
    "marked.jsonl": lambda rows, path: path.write_bytes(b"\xef\xbb\xbf" + lines(rows).encode()),
    "a.json": lambda rows, path: path.write_text(json.dumps(rows, indent=1)),
    "data.json": lambda rows, path: path.write_text(json.dumps({"version": 1, "data": rows})),
    "lines.json": lambda rows, path: path.write_text(lines(rows)),
    "a.jsonl.gz": lambda rows, path: path.write_bytes(gzip.compress(lines(rows).encode())),
    "A.CSV": lambda rows, path: path.write_text(table(rows)),
    "a.csv.gz": lambda rows, path: path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + table(rows).encode())),
    "a.tsv": lambda rows, path: path.write_text(table(rows, "\t")),
    "a.parquet": lambda rows, path: parquet.write_table(pa.Table.from_pylist(rows), path),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_rows(name, put, read):
    expected, _ = (put("x/a.jsonl", lines(TEXTS)), read("x/a.jsonl"))[1]
    KINDS[name](TEXTS, put(f"y/{name}", b""))
    found, _ = read(f"y/{name}")
    assert contents(found) == contents(expected)
    assert found.digests.tobytes() == expected.digests.tobytes()
    assert found.facts.files[0].rows == 2


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_conversations_may_be_cells_of_a_table(name, put, read):
    expected, _ = (put("x/a.jsonl", lines(CHATS)), read("x/a.jsonl"))[1]
    rows = [{"messages": json.dumps(CHATS[0]["messages"])}] if name == "a.csv" else CHATS
    KINDS["A.CSV" if name == "a.csv" else name](rows, put(f"y/{name}", b""))
    assert contents(read(f"y/{name}")[0]) == contents(expected)


def test_a_folder_is_all_its_data_files_in_the_order_of_their_names(put, read):
    put("b.jsonl", lines(TEXTS[1:]))
    put("a/z.csv", table(TEXTS[:1]))
    put("README.md", SECRET)
    put("_SUCCESS.json", "")
    put(".hidden/c.jsonl", "{")
    prepared, _ = read("")
    assert [(file.name, file.rows) for file in prepared.facts.files] == [("a/z.csv", 1), ("b.jsonl", 1)]
    assert contents(read("*.jsonl")[0]) == contents(prepared)[1:]
    assert contents(read("**/*.csv")[0]) == contents(prepared)[:1]


def test_the_digest_names_names_and_contents_and_not_the_folder(put, read):
    put("x/a.jsonl", lines(TEXTS))
    put("y/a.jsonl", lines(TEXTS))
    put("z/b.jsonl", lines(TEXTS))
    digests = {uri: read(uri)[1] for uri in ("x/", "y/", "y/a.jsonl", "z/")}
    assert digests["x/"] == digests["y/"] == digests["y/a.jsonl"] != digests["z/"]
    put("y/a.jsonl", lines(TEXTS) + "\n")
    assert read("y/")[1] != digests["y/"]


def test_what_was_detected_and_why_is_known(put, read):
    put("a.jsonl", "\n" + lines(TEXTS))
    put("b.jsonl", json.dumps({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}))
    assert read("a.jsonl")[0].facts.detected_by == "row 2 of a.jsonl has the columns prompt, completion"
    assert read("b.jsonl")[0].facts.detected_by == "row 1 of b.jsonl has the columns conversations, as ShareGPT has it"
    assert read("a.jsonl", format="PromptCompletion")[0].facts.detected_by == "asked for: PromptCompletion"


def test_columns_may_have_other_names(put, read):
    put("a.jsonl", lines([{"question": row["prompt"], "answer": row["completion"]} for row in TEXTS]))
    put("b.jsonl", lines(TEXTS))
    mapped, _ = read("a.jsonl", columns={"prompt": "question", "completion": "answer"})
    assert contents(mapped) == contents(read("b.jsonl")[0])


BROKEN = [
    ("a.jsonl", lines([TEXTS[0], "x"]), 65, "a.jsonl row 2: is a string; write a JSON object"),
    ("a.jsonl", lines(TEXTS) + "\n\n{" + SECRET, 65, "a.jsonl row 4: not JSON: Expecting property name"),
    ("a.jsonl", b'{"prompt": "\xff"}', 65, "row 1: byte 12 is not UTF-8; save the file as UTF-8"),
    ("a.jsonl", "\n \n", 65, "the set has no rows"),
    ("a.jsonl", lines([TEXTS[0], {"messages": []}]), 65, "row 2: prompt is missing"),
    ("a.json", '{"prompt": ' + SECRET, 65, "the file is not JSON: Expecting value at line 1, column 12"),
    ("a.json", f'"{SECRET}"', 65, "the file holds a string; write an array of objects"),
    ("a.csv", f"prompt,completion\na,b\n{SECRET}\n", 65, "row 2: has 1 cells and the first line 2"),
    ("a.csv", f'prompt,completion\n"{SECRET}"x,b\n', 65, "the file has a broken quotation after row 0"),
    ("a.csv", "prompt,\na,b\n", 65, "the file has a column without a name in its first line"),
    ("a.csv", "prompt,prompt\na,b\n", 65, "the file has two columns of one name"),
    ("a.csv", b"prompt,completion\na,\xff\n", 65, "the file has bytes that are not UTF-8"),
    ("a.jsonl.gz", b"\x1f\x8b" + SECRET.encode(), 65, "the file is no whole gzip file"),
    ("a.jsonl.gz", gzip.compress(lines(TEXTS).encode())[:-9], 65, "the file is no whole gzip file"),
    ("a.parquet", SECRET, 65, "the file is no whole Parquet file"),
    ("a.txt", SECRET, 64, "there is no data file of a kind that is read"),
    ("a.jsonl", lines([{"chosen": "a b", "rejected": "a c"}]), 65, "Preference rows, which task CausalLM"),
    ("a.jsonl", lines([{"question": SECRET}]), 65, "the columns question match no format"),
]


@pytest.mark.parametrize(("name", "content", "code", "words"), BROKEN, ids=[words for *_, words in BROKEN])
def test_what_is_wrong_is_told_with_file_and_row(name, content, code, words, put, read):
    put(name, content)
    with pytest.raises(TrainerError) as caught:
        read(name)
    assert caught.value.exit_code == ExitCode(code)
    assert words in str(caught.value)
    assert f"data/{name}" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_first_bad_rows_of_all_files_are_named_and_all_up_to_ten_are_counted(put, read):
    put("a.jsonl", lines(TEXTS) + "\n{")
    put("b.jsonl", "\n".join(["{"] * 4))
    with pytest.raises(TrainerError) as caught:
        read("")
    assert caught.value.message.count(" row ") == 3
    assert caught.value.message.endswith("(5 bad rows)")
    put("b.jsonl", "\n".join(["["] * 400))
    with pytest.raises(TrainerError, match=r"\(10 or more bad rows\)"):
        read("")


def test_a_mapped_column_that_no_row_has_is_told_before_what_follows_from_it(put, read):
    put("a.jsonl", lines([{"question": SECRET, "answer": "b"}] * 20))
    with pytest.raises(TrainerError, match="no row has the column query, which prompt is mapped to") as caught:
        read("a.jsonl", columns={"prompt": "query", "completion": "answer"}, format="PromptCompletion")
    assert caught.value.hint == "map it to one of answer, question"


@pytest.mark.parametrize("uri", ["nothing.jsonl", "nowhere/", "*.jsonl"])
def test_what_is_not_there_is_not_found(uri, put, read):
    put("a.csv", table(TEXTS))
    with pytest.raises(TrainerError) as caught:
        read(uri)
    assert caught.value.exit_code == ExitCode.INPUT_NOT_FOUND


def test_many_batches_give_what_one_gives(put, read, monkeypatch):
    rows = [{"prompt": f"Question {number}?", "completion": f"Answer {number}."} for number in range(50)]
    put("a.jsonl", lines(rows))
    whole, _ = read("a.jsonl")
    monkeypatch.setattr("lora_trainer.data.prepare._ROWS_A_CALL", 7)
    parts, _ = read("a.jsonl")
    assert contents(parts) == contents(whole)
    assert parts.facts == whole.facts
