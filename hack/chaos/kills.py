"""When and how trainers are killed: a plan drawn from a seed.

Most kills come at any time of an undisturbed run. Saving and publishing take a small part of it, so some are aimed.
"""

import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

_AIMED_SHARE = 0.15
"""Of the kills at saving, and of those at publishing."""
T = TypeVar("T")


class Aim(StrEnum):
    """What a kill waits for."""

    ANY_TIME = "any time"
    SAVING = "saving"
    PUBLISHING = "publishing"


@dataclass(frozen=True)
class Kill:
    """One kill."""

    signal: signal.Signals
    aim: Aim
    share: float
    """How far into the run, or into what is aimed at, from 0 to 1."""


def plan_kills(seed: int, count: int) -> list[Kill]:
    """Return as many kills, half of each signal, in random order."""
    draw = random.Random(seed)  # noqa: S311 - repeatable is what it has to be
    aimed = max(1, round(_AIMED_SHARE * count))
    aims = [Aim.SAVING] * aimed + [Aim.PUBLISHING] * aimed + [Aim.ANY_TIME] * max(0, count - 2 * aimed)
    signals = [(signal.SIGTERM, signal.SIGKILL)[number % 2] for number in range(count)]
    return [
        Kill(number, aim, draw.random())
        for number, aim in zip(_shuffled(draw, signals), _shuffled(draw, aims[:count]), strict=True)
    ]


def _shuffled(draw: random.Random, items: Sequence[T]) -> list[T]:
    return draw.sample(items, len(items))
