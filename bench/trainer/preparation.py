"""From chat rows to tokens and masks: rows a second, and how soon prepared data are there a second time."""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.trainer.conversations import conversations
from bench.trainer.isolation import run_alone
from bench.trainer.models import small_model
from bench.trainer.observe import take_peaks
from bench.trainer.report import Section, Verdict, best_and_median, ratio, say
from bench.trainer.settings import Settings
from bench.trainer.workload import Trace
from support.s3server import S3Server, open_s3_server

_SPEED_UP = 2.0
_GIB = 1 << 30
BUCKET = "bench"
_OURS, _WHOLE, _MASKED = "ours, with masks", "TRL, every token learned", "TRL, with masks"
_ANSWERS_MARKED = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""SmolLM2's own template with the marks that TRL needs for masks."""


@dataclass(frozen=True)
class Request:
    """Rows to prepare."""

    contender: str
    file: str
    model: str
    endpoint: str


@dataclass
class Prepared:
    """What the preparation took, and what came out."""

    seconds: float
    rows: int
    tokens: int
    learned: int
    cache_seconds: float = 0.0
    """From asking the store to examples in memory, at the second time."""
    peak_memory: int = 0


def prepare(request: dict[str, Any]) -> Prepared:
    """Prepare the rows of a request, in the contender's own process."""
    asked = Request(**request)
    done = _ours(asked) if asked.contender == _OURS else _trl(asked)
    done.peak_memory = take_peaks(Trace()).peak_memory
    return done


def measure(settings: Settings) -> list[Section]:
    """Return the rows a second of ours and TRL."""
    count = settings.pick(5000, 200)
    file = settings.scratch / "chat.jsonl"
    rows = conversations(count, seed=11, turns=(1, 2, 3))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = small_model(settings.scratch / "tokens", layers=1, hidden=32)
    found: dict[str, list[Prepared]] = {name: [] for name in (_OURS, _WHOLE, _MASKED)}
    with tempfile.TemporaryDirectory() as folder, open_s3_server(Path(folder)) as server:
        server.client().create_bucket(Bucket=BUCKET)
        for turn in range(1, settings.repeats + 1):
            for name, runs in found.items():
                say(f"preparation: {name}, {turn} of {settings.repeats}")
                runs.append(_run(settings, name, file, model, server))
    _check_same(found[_OURS][0], found[_MASKED][0])
    return [_section(count, found)]


def _run(settings: Settings, name: str, file: Path, model: Path, server: S3Server) -> Prepared:
    request = json.dumps(asdict(Request(name, str(file), str(model), server.endpoint)))
    return Prepared(**run_alone("prepare", request, threads=settings.threads, variables=server.environment))


def _check_same(ours: Prepared, theirs: Prepared) -> None:
    if (ours.rows, ours.tokens, ours.learned) != (theirs.rows, theirs.tokens, theirs.learned):
        raise AssertionError(f"ours and TRL made different examples of the same rows: {ours}, {theirs}")


def _section(count: int, found: dict[str, list[Prepared]]) -> Section:
    speeds = {name: [each.rows / each.seconds for each in runs] for name, runs in found.items()}
    best = {name: max(each) for name, each in speeds.items()}
    rival = max(best[_WHOLE], best[_MASKED])
    cached = [each.cache_seconds for each in found[_OURS]]
    return Section(
        f"Data preparation: {count:,} conversations, tokenizer of SmolLM2",
        ("", "rows/s", "ours is faster by", "peak memory, GiB"),
        [
            (name, best_and_median(each, 0, most=True), ratio(best[_OURS], best[name]), _peak(found[name]))
            for name, each in speeds.items()
        ],
        [
            Verdict(
                f"at least {_SPEED_UP:g} times the faster of both of TRL",
                f"{best[_OURS]:,.0f} against {rival:,.0f} rows/s, {ratio(best[_OURS], rival)}",
                best[_OURS] >= _SPEED_UP * rival,
            ),
            Verdict("the second time in less than a second", f"{best_and_median(cached, 3)} s", min(cached) < 1),
        ],
        [
            "Ours from the file on: parsing, checks, digests, masks. TRL from rows in memory on.",
            "Ours and TRL with masks made the same number of tokens, and learn from equally many.",
            "The second time: from a real S3 server, the checksum verified, to examples in memory.",
        ],
    )


def _peak(runs: Sequence[Prepared]) -> str:
    return f"{max(each.peak_memory for each in runs) / _GIB:.2f}"


def _ours(asked: Request) -> Prepared:
    from bench.trainer.models import tokenizer_of
    from lora_api.lorajob import LoRAJobSpec
    from lora_trainer.data.files import DataFile
    from lora_trainer.data.prepare import prepare_set
    from lora_trainer.data.source import sources_of
    from lora_trainer.data.tokens import ChatTokenizer

    spec = LoRAJobSpec.model_validate(
        {
            "baseModel": {"uri": f"s3://{BUCKET}/base"},
            "dataset": {"train": {"uri": f"s3://{BUCKET}/train.jsonl"}},
            "output": {"uri": f"s3://{BUCKET}/out"},
            "storage": {"endpoint": asked.endpoint, "pathStyle": True},
        }
    )
    tokenizer = ChatTokenizer(tokenizer_of(Path(asked.model)))
    (source,) = sources_of(spec).train
    file = DataFile("train.jsonl", source.location, Path(asked.file), sha256="")
    started = time.perf_counter()
    prepared = prepare_set(source, [file], spec, tokenizer)
    seconds = time.perf_counter() - started
    examples = prepared.examples
    return Prepared(
        seconds=seconds,
        rows=len(examples),
        tokens=int(examples.lengths.sum()),
        learned=int(examples.learned.sum()),
        cache_seconds=_second_time(spec, prepared),
    )


def _second_time(spec: Any, prepared: Any) -> float:
    from lora_trainer.data.cache import PreparedStore
    from lora_trainer.storage.access import Storage
    from lora_trainer.storage.location import Location

    with tempfile.TemporaryDirectory() as folder:
        store = PreparedStore(
            Storage(spec.storage), Location(f"s3://{BUCKET}/prepared", "spec.output.uri"), Path(folder)
        )
        store.save("0" * 64, prepared)
        started = time.perf_counter()
        found = store.load("0" * 64)
        seconds = time.perf_counter() - started
    if found is None or len(found.examples) != len(prepared.examples):
        raise AssertionError("the prepared data did not come back")
    return seconds


def _trl(asked: Request) -> Prepared:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from bench.trainer.models import tokenizer_of

    seconds = []

    class TimedSFTTrainer(SFTTrainer):  # type: ignore[misc]
        """SFTTrainer that takes the time of its dataset preparation."""

        def _prepare_dataset(self, *arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            prepared = super()._prepare_dataset(*arguments, **options)
            seconds.append(time.perf_counter() - started)
            return prepared

    tokenizer, masked = tokenizer_of(Path(asked.model)), asked.contender == _MASKED
    if masked:
        tokenizer.chat_template = _ANSWERS_MARKED
    rows = [json.loads(line) for line in Path(asked.file).read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, max_length=8192, assistant_only_loss=masked, use_cpu=True, report_to="none", bf16=False
        )
        model = AutoModelForCausalLM.from_pretrained(asked.model, local_files_only=True)
        trainer = TimedSFTTrainer(
            model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
        )
    made = trainer.train_dataset
    learned = sum(label != -100 for row in made["labels"] for label in row)
    return Prepared(sum(seconds), len(made), sum(len(ids) for ids in made["input_ids"]), learned)
