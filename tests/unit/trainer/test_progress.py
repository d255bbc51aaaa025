"""Progress: what the operator polls, and what Prometheus scrapes."""

import json
import urllib.error
import urllib.request

import pytest

from lora_api.messages import Activity, Progress
from lora_trainer.progress import ProgressState, prometheus_text, serve_progress
from lora_trainer.training.recorder import Recorder


def get(server, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=5) as answer:
        return answer.read().decode()


@pytest.fixture
def state():
    return ProgressState()


@pytest.fixture
def server(state):
    server = serve_progress(state, port=0)
    yield server
    server.shutdown()
    server.server_close()


def test_progress_is_served_as_the_contract_has_it(state, server):
    state.enter(Activity.TRAINING)
    state.step(5, 20, seconds_per_step=2.0)
    answer = json.loads(get(server, "/progress"))
    assert (answer["activity"], answer["step"], answer["totalSteps"], answer["percent"]) == ("Training", 5, 20, 25.0)
    assert Progress.model_validate(answer).eta_time is not None


def test_metrics_are_served_as_text(state, server):
    state.update(step=3, loss=1.5)
    assert "lora_trainer_step 3\n" in get(server, "/metrics")


def test_other_paths_are_not_found(server):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(server, "/")


def test_a_taken_port_is_replaced_by_a_free_one(state, server):
    other = serve_progress(state, port=server.server_port)
    assert other.server_port != server.server_port
    other.shutdown()
    other.server_close()


def test_unknown_values_are_left_out_of_the_metrics():
    assert prometheus_text(Progress(step=1)).splitlines() == [
        "# HELP lora_trainer_step Finished optimizer steps.",
        "# TYPE lora_trainer_step gauge",
        "lora_trainer_step 1",
    ]


def test_the_recorder_writes_lines_and_sums_up(tmp_path, state):
    recorder = Recorder(tmp_path / "metrics.jsonl", state, total_steps=20)
    recorder.evaluation(0, {"evalLoss": 4.0}, count=10)
    for step in range(1, 21):
        recorder.step(step, step / 10, 0.5, 100, {"loss": 20.0 - step, "gradNorm": 1.0, "learningRate": 0.1})
    recorder.evaluation(20, {"evalLoss": 2.0}, count=10)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 22
    assert lines[1]["tokensPerSecond"] == 200.0
    assert recorder.final_metrics(20) == {"trainLoss": 0.5, "evalLoss": 2.0, "baseEvalLoss": 4.0}
    assert (state.current.percent, state.current.eval_loss, state.current.tokens_per_second) == (100.0, 2.0, 200.0)


def test_a_history_goes_on_where_a_checkpoint_ended_it(tmp_path, state):
    first = Recorder(tmp_path / "first.jsonl", state, total_steps=3)
    first.evaluation(0, {"evalLoss": 4.0}, count=10)
    first.step(1, 0.5, 0.5, 100, {"loss": 3.0, "gradNorm": 1.0, "learningRate": 0.1})
    second = Recorder(tmp_path / "second.jsonl", state, total_steps=3)
    second.restore(first.history)
    second.step(2, 1.0, 0.5, 100, {"loss": 2.0, "gradNorm": 1.0, "learningRate": 0.1})
    steps = [json.loads(line)["step"] for line in (tmp_path / "second.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2]
    assert second.evaluated_at(0)
