"""Who is told how a pass goes, while it goes: the logs, metrics and traces of `app`, which this package cannot know.

A witness hears and decides nothing. Without one a pass is the same.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from lora_api.lorajob_status import Phase
from lora_operator.domain.adapter_plan import AdapterPlan
from lora_operator.domain.measures import Measure
from lora_operator.reconcile.keys import Key


class Witness:
    """Hears of passes. This one forgets what it hears."""

    def started(self, key: Key) -> AbstractContextManager[None]:
        """Return what a whole pass runs in."""
        return nullcontext()

    def part(self, name: str) -> AbstractContextManager[None]:
        """Return what a part of a pass runs in: observe, plan or execute."""
        return nullcontext()

    def read(self, generation: int) -> None:
        """Hear of which generation of the object the pass is."""

    def refused(self, key: Key) -> None:
        """Hear that the API server refused an object of the pass."""

    def finished(self, key: Key, phase: Phase | None, measures: Sequence[Measure]) -> None:
        """Hear what came of a pass over a LoRAJob; the phase is None when the job is gone."""

    def delivered(self, key: Key, plan: AdapterPlan | None) -> None:
        """Hear what came of a pass over a LoRAAdapter; None when it is gone."""
