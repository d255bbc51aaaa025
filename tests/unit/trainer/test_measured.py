"""The loss curve of the last words: the whole of metrics.jsonl, whatever state a pod left it in."""

import json

import pytest

from lora_api.loss_curve import MAX_CURVE_POINTS
from lora_api.messages import Progress, TerminationMessage
from lora_trainer.measured import measured_curve
from lora_trainer.progress import ProgressState
from lora_trainer.termination import with_findings
from lora_trainer.training.recorder import Recorder


def points(curve):
    return [(each.step, each.loss, each.eval_loss) for each in curve or []]


def record(recorder, first, last):
    for step in range(first, last + 1):
        recorder.step(step, step / 10, 0.1, 100, {"loss": 3.0 - step / 10, "gradNorm": 1.0, "learningRate": 0.01})


def test_what_a_recorder_writes_is_the_curve_also_from_before_the_attempt(tmp_path):
    recorder = Recorder(tmp_path / "metrics.jsonl", ProgressState(), total_steps=4)
    recorder.retention(0, 2.5, 10)
    recorder.evaluation(0, {"evalLoss": 3.25, "perplexity": 25.8}, 10)
    record(recorder, 1, 2)

    resumed = Recorder(tmp_path / "other.jsonl", ProgressState(), total_steps=4)
    assert measured_curve(tmp_path / "other.jsonl") is None, "nothing is known before the checkpoint is read"
    resumed.restore(recorder.history)
    record(resumed, 3, 4)
    resumed.evaluation(4, {"evalLoss": 2.75}, 10)
    expected = [(0, None, 3.25), (1, 2.9, None), (2, 2.8, None), (3, 2.7, None), (4, 2.6, 2.75)]
    assert points(measured_curve(tmp_path / "other.jsonl")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ('{"step": 1, "loss": 2.5}\n{"step": 2, "lo', [(1, 2.5, None)]),
        ('{"step": 1, "loss": NaN}\n{"step": 2, "loss": Infinity, "evalLoss": 1.5}\n', [(2, None, 1.5)]),
        ('[1]\n7\n"x"\n{"loss": 2.5}\n{"step": "many", "loss": 2.5}\n\n', []),
        ("\udcff", []),
    ],
    ids=["empty", "cut by a full disk", "no numbers", "no measurements", "no text"],
)
def test_a_file_that_is_not_whole_gives_what_it_has(tmp_path, text, expected):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert points(measured_curve(path)) == expected


def test_without_a_file_there_is_no_curve(tmp_path):
    assert measured_curve(tmp_path / "metrics.jsonl") is None


def test_a_long_run_fits_into_its_last_words(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "loss": 2 / step}) + "\n" for step in range(1, 5001)))
    message = with_findings(TerminationMessage(reason="Finished", message="done"), Progress(), measured_curve(path))
    read = TerminationMessage.model_validate_json(message.encode())
    assert len(read.loss_curve) == MAX_CURVE_POINTS
    assert (read.loss_curve[0].step, read.loss_curve[-1].step) == (1, 5000)
