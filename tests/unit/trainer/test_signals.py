"""Signals: at once where nothing is lost, at the next boundary where something would be torn apart."""

import os
import signal

import pytest

from lora_api.exit_codes import ExitCode
from lora_trainer.signals import InterruptionError, StopSignal


@pytest.fixture
def stop():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stop = StopSignal()
    stop.install()
    yield stop
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGINT, before[1])


def test_a_signal_ends_the_process_where_it_is(stop):
    with pytest.raises(InterruptionError, match="stopped by SIGTERM") as caught:
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.exit_code == ExitCode.INTERRUPTED
    assert "this attempt saved no checkpoint" in caught.value.hint


def test_the_last_words_name_the_checkpoint_that_is_saved(stop):
    stop.checkpoint_step = 40
    with pytest.raises(InterruptionError) as caught:
        stop.request("SIGTERM")
    assert caught.value.hint == "the checkpoint of step 40 is saved; the next attempt goes on from it"


def test_a_deferred_signal_only_sets_the_flag(stop):
    with stop.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
    assert stop.name == "SIGTERM"


def test_the_second_signal_is_not_deferred(stop):
    with stop.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(InterruptionError):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_is_deferred_within_something_deferred_ends_with_the_outer_block(stop):
    with stop.deferred():
        with stop.deferred():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested
