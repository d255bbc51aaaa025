"""Running other programs and telling the user how far we are: the one place with the output's form."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

TICK_SECONDS = 15  # long steps say that they live, well before anyone or a CI gives up on them


class DevclusterError(Exception):
    """Ends the command with this one line, which says what is missing and where."""


def say(text: str) -> None:
    """To standard error: standard output belongs to `env`, which shells evaluate."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """One line when it is done, with the time it took, and ticks while it lasts."""
    started = time.monotonic()
    done = threading.Event()

    def tick() -> None:
        while not done.wait(TICK_SECONDS):
            say(f"[{time.monotonic() - started:6.1f} s] … {text}")

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()
    say(f"[{time.monotonic() - started:6.1f} s] {text}")


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    env: dict[str, str] | None = None,
    cwd: str | None = None,
    timeout: float | None = None,
) -> str:
    """Standard output of a program that must succeed; its last words are in the error if it does not."""
    try:
        result = subprocess.run(
            argv, input=stdin, env=env, cwd=cwd, timeout=timeout, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise DevclusterError(f"program {argv[0]} is missing") from error
    except subprocess.TimeoutExpired as error:
        raise DevclusterError(f"{' '.join(argv[:3])} did not end within {timeout} s") from error
    if result.returncode != 0:
        words = (result.stderr.strip() or result.stdout.strip()).splitlines()
        raise DevclusterError(f"{' '.join(argv[:3])} failed ({result.returncode}): {' | '.join(words[-3:])}")
    return result.stdout


def succeeds(argv: Sequence[str], timeout: float = 10) -> bool:
    """Whether a program, all its output dropped, exits with 0 in time."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
