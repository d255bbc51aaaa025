"""The watchdog gives up on a process that no longer gets on, and on no other."""

import threading

from lora_trainer.progress import ProgressState
from lora_trainer.training.watchdog import Watchdog, stacks

DEADLINE_SECONDS = 30


def test_silence_ends_the_process_with_what_it_was_doing():
    given_up = threading.Event()
    words = []

    def give_up(message):
        words.append(message)
        given_up.set()

    watchdog = Watchdog(ProgressState(), 0.2, give_up)
    watchdog.start()
    assert given_up.wait(DEADLINE_SECONDS)
    assert "nothing got on for" in words[0]
    assert "Starting" in words[0]


def test_signs_of_life_keep_it_quiet():
    progress, given_up = ProgressState(), threading.Event()
    watchdog = Watchdog(progress, 60, lambda _: given_up.set())
    progress._beat_time -= 59
    assert not watchdog.is_silent()
    progress._beat_time -= 2
    assert watchdog.is_silent()
    progress.beat()
    assert not watchdog.is_silent()
    progress._beat_time -= 61
    progress.update(step=1)
    assert not watchdog.is_silent()


def test_the_stacks_name_places_and_no_values():
    secret = "a row of data"
    found = stacks()
    (mine,) = [lines for lines in found.values() if any("test_the_stacks" in line for line in lines)]
    assert secret not in "".join(mine)
