"""The training waits for a copy and never for the store; the newest state wins; a failure is told and mended."""

import logging
import threading
from datetime import UTC, datetime

import pytest
import torch

from lora_api.exit_codes import ExitCode
from lora_api.messages import SavedCheckpoint
from lora_trainer.checkpoint import uploader as module
from lora_trainer.checkpoint.state import TrainingState
from lora_trainer.checkpoint.uploader import BackgroundUploader, pause_seconds
from lora_trainer.errors import TrainerError

SECONDS = 30  # how long a test waits for the other thread before it fails
DOWN = TrainerError(ExitCode.SERVICE_UNAVAILABLE, "S3 did not answer")
REFUSED = TrainerError(ExitCode.NO_PERMISSION, "S3 refused the access")


class Store:
    """A store that waits at a gate, and fails as it is told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.tried, self.saved, self.weights, self.prunes = [], [], [], 0
        self.entered, self.gate = threading.Semaphore(0), threading.Event()
        self.gate.set()

    def save(self, state):
        self.tried.append(state.step)
        self.entered.release()
        assert self.gate.wait(SECONDS)
        if self.failures:
            raise self.failures.pop(0)
        self.saved.append(state.step)
        self.weights.append(state.adapter["w"].item())
        return SavedCheckpoint(step=state.step, uri=f"s3://b/{state.step}", time=datetime.now(UTC))

    def prune(self):
        self.prunes += 1


def state(step: int, weight: torch.Tensor | None = None) -> TrainingState:
    return TrainingState(step, {"w": torch.tensor(float(step)) if weight is None else weight}, {}, {})


def uploader_of(store: Store) -> tuple[BackgroundUploader, list[int]]:
    told = []
    return BackgroundUploader(store, lambda saved: told.append(saved.step)), told


def test_a_saved_checkpoint_is_told_and_old_ones_are_pruned():
    store = Store()
    uploader, told = uploader_of(store)
    uploader.save(state(10))
    assert uploader.drain(SECONDS)
    assert (told, uploader.last.step, uploader.failure, store.prunes) == ([10], 10, None, 1)


def test_training_goes_on_while_the_store_takes_its_time():
    store = Store()
    store.gate.clear()
    weight = torch.tensor(1.0)
    uploader, _ = uploader_of(store)
    uploader.save(state(1, weight))
    assert store.entered.acquire(timeout=SECONDS)
    weight.fill_(99.0)  # the next step, while the upload runs
    store.gate.set()
    assert uploader.drain(SECONDS)
    assert store.weights == [1.0]


def test_of_those_that_wait_only_the_newest_is_uploaded_and_the_running_one_is_finished():
    store = Store()
    store.gate.clear()
    uploader, _ = uploader_of(store)
    uploader.save(state(1))
    assert store.entered.acquire(timeout=SECONDS)
    uploader.save(state(2))
    uploader.save(state(3))
    store.gate.set()
    assert uploader.drain(SECONDS)
    assert store.saved == [1, 3]


def test_a_store_that_is_down_is_tried_again_and_the_training_is_told_nothing(caplog):
    caplog.set_level(logging.WARNING)
    store = Store(DOWN, OSError(28, "No space left on device"))
    uploader, _ = uploader_of(store)
    uploader.save(state(1))
    assert uploader.drain(SECONDS)
    assert (store.tried, store.saved, uploader.failure) == ([1, 1, 1], [1], None)
    reasons = [record.fields["reason"] for record in caplog.records if record.message == "a checkpoint was not saved"]
    assert [reason.partition(";")[0] for reason in reasons] == ["S3 did not answer", "the scratch volume is full"]


def test_a_newer_checkpoint_takes_the_place_of_one_that_failed():
    store = Store(DOWN)
    store.gate.clear()
    uploader, _ = uploader_of(store)
    uploader.save(state(1))
    assert store.entered.acquire(timeout=SECONDS)
    uploader.save(state(2))
    store.gate.set()
    assert uploader.drain(SECONDS)
    assert store.saved == [2]


def test_a_refusal_is_not_repeated_but_the_next_checkpoint_is_a_new_chance():
    store = Store(REFUSED)
    uploader, _ = uploader_of(store)
    uploader.save(state(1))
    assert not uploader.drain(SECONDS)
    assert (store.tried, uploader.last, uploader.failure) == ([1], None, REFUSED)
    uploader.save(state(2))
    assert uploader.drain(SECONDS)
    assert (store.saved, uploader.failure) == ([2], None)


def test_draining_does_not_sit_out_the_pause_after_a_failure(monkeypatch):
    monkeypatch.setattr(module, "pause_seconds", lambda _: 3600.0)
    store = Store(DOWN)
    uploader, _ = uploader_of(store)
    uploader.save(state(1))
    assert store.entered.acquire(timeout=SECONDS)
    assert uploader.drain(SECONDS)
    assert store.saved == [1]


def test_draining_gives_up_when_its_time_is_over(caplog):
    store = Store()
    store.gate.clear()
    uploader, _ = uploader_of(store)
    uploader.save(state(1))
    assert not uploader.drain(0.01)
    assert "a checkpoint was not stored in time" in caplog.text
    store.gate.set()
    assert uploader.drain(SECONDS)


def test_draining_without_a_checkpoint_is_done_at_once():
    assert uploader_of(Store())[0].drain(SECONDS)


def test_a_failure_to_tell_or_to_prune_loses_no_checkpoint(caplog):
    store = Store()
    store.prune = lambda: (_ for _ in ()).throw(DOWN)
    uploader, _ = uploader_of(store)
    uploader.save(state(1))
    assert uploader.drain(SECONDS)
    assert uploader.last.step == 1
    assert "old checkpoints were not removed" in caplog.text


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (5000, 60)])
def test_pauses_double_up_to_a_minute(failures, seconds):
    assert pause_seconds(failures) == seconds
