"""Names of classes and their numbers: the same for every order of rows, files and sets.

While rows are read a class has the number in which it came; at the end all sets agree on one order of names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lora_trainer.data.examples import IGNORED, LABELS, Column, Examples, Int32

MAX_LABELS = 10_000
_WHOLE_ENUMERATION = 1000


@dataclass
class LabelBook:
    """Names in the order of their first appearance."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """Return the number of a name, which is added if it is new."""
        return self.numbers.setdefault(name, len(self.numbers))

    @property
    def names(self) -> list[str]:
        """The names by number."""
        return list(self.numbers)


def ordered_names(names: Iterable[str]) -> list[str]:
    """Return the names of the classes in the order of their numbers.

    Names that are all whole numbers come by value, others by the alphabet. Numbers that begin at 0 are those of
    classes already, so one that no row has keeps its place and the class of a model's output is the number in the data.
    """
    distinct = set(names)
    if not distinct or not all(_is_number(name) for name in distinct):
        return sorted(distinct)
    values = sorted(int(name) for name in distinct)
    if values[0] == 0 and values[-1] < _WHOLE_ENUMERATION:
        values = list(range(values[-1] + 1))
    return [str(value) for value in values]


def renumbered(examples: Examples, before: Sequence[str], after: Sequence[str]) -> Examples:
    """Return examples whose labels are numbers in the names `after` instead of `before`."""
    if not before or list(before) == list(after):
        return examples
    places = {name: number for number, name in enumerate(after)}
    translation = np.asarray([places[name] for name in before], np.int32)
    labels = examples.columns[LABELS]
    known = labels.values != IGNORED
    values: Int32 = np.where(known, translation[np.where(known, labels.values, 0)], np.int32(IGNORED))
    return Examples({**examples.columns, LABELS: Column(values, labels.offsets)})


def count_labels(examples: Examples, names: Sequence[str]) -> Mapping[str, int]:
    """Return how many labels of each class there are."""
    values = examples.columns[LABELS].values if names else np.zeros(0, np.int32)
    counts = np.bincount(values[values != IGNORED], minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isascii() and name.removeprefix("-").isdigit() and str(int(name)) == name
