"""What every engine driver promises to the loop: list, load, unload, and the first next token's log-probabilities.

A driver speaks one engine's language and decides nothing: which adapter is wanted, whether one may be replaced, and
when to try again is the loop's. It keeps no state that the engine itself can be asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from lora_agent.faults import Fault
from lora_api.reasons import Reason

MAX_MESSAGE: Final = 500
"""Characters of an engine's words that are passed on."""


Prompt: TypeAlias = list[int] | str
"""Token ids, or a text."""


class ErrorKind(StrEnum):
    """What an engine's refusal means to the loop."""

    UNREACHABLE = "Unreachable"
    """Nobody answers, or not as this engine does."""
    ALREADY_LOADED = "AlreadyLoaded"
    """The name answers already, with other files."""
    NOT_FOUND = "NotFound"
    """The engine does not see the files, or does not know the name."""
    REFUSED = "Refused"
    """These files cannot be loaded (rank, format, modules): the same again does not help."""
    NOT_ENABLED = "NotEnabled"
    """The engine was started without what this needs: nothing helps before its restart."""
    UNAUTHORIZED = "Unauthorized"
    BUSY = "Busy"
    """Not now; the same again may help. Whether the call took effect is not known."""


class EngineError(Exception):
    """An engine did not do what it was asked."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        """Keep the engine's words as one line of at most `MAX_MESSAGE` characters."""
        self.kind = kind
        self.message = one_line(message)
        super().__init__(f"{kind}: {self.message}")


class ProbeUnsupportedError(Exception):
    """The engine cannot say log-probabilities of this kind of prompt. That is no fault of the adapter."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What an engine says that it serves."""

    version: str
    """Empty if it does not say."""
    bases: tuple[str, ...]
    """Ids and roots of the base models, as the engine writes them."""
    adapters: Mapping[str, str]
    """Served name to the path of the files; an empty path if the engine does not tell it."""


class Driver(Protocol):
    """One engine. All methods raise `EngineError`; none waits longer than its own time limit."""

    kind: str
    can_stage: bool
    """Whether a version can be loaded under another name, to be probed before anybody asks for it."""
    proves_path: bool
    """Whether the listing tells paths, so that a version is proved; else a name alone."""
    works_offline: bool
    """Whether load and unload only change files, and must be called before the engine is reachable too."""

    async def list(self) -> Listing:
        """Return what is served now."""

    async def load(self, name: str, path: Path, replaces: str | None) -> None:
        """Make `name` answer with the files in `path`; what it answered with stays if that fails.

        `replaces` is the path that the listing shows for the name now, None if the name is free.
        """

    async def unload(self, name: str, path: Path | None) -> None:
        """Make the engine forget a name. An unknown name is success."""

    async def next_tokens(self, name: str | None, path: Path | None, prompt: Prompt, top: int) -> dict[str, float]:
        """Return natural log-probabilities of the likeliest next tokens, by token id, or by text if ids are not known.

        Without a name the base model answers. Raises ProbeUnsupportedError where the engine cannot say.
        """


def one_line(text: str, limit: int = MAX_MESSAGE) -> str:
    """Return the text without line breaks, cut at the limit."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


_FAULTS: Final[Mapping[ErrorKind, tuple[Reason, bool]]] = {
    ErrorKind.UNREACHABLE: (Reason.ENGINE_UNREACHABLE, False),
    ErrorKind.BUSY: (Reason.ENGINE_UNREACHABLE, False),
    ErrorKind.NOT_ENABLED: (Reason.ENGINE_FLAGS_MISSING, True),
    ErrorKind.ALREADY_LOADED: (Reason.NAME_CONFLICT, False),
    ErrorKind.NOT_FOUND: (Reason.ENGINE_REFUSED, False),  # a folder that another user id cannot read looks like this
    ErrorKind.UNAUTHORIZED: (Reason.ENGINE_REFUSED, False),
    ErrorKind.REFUSED: (Reason.ENGINE_REFUSED, True),
}


def fault_of(error: EngineError) -> Fault:
    """Return what an engine's error means for the adapter it was about."""
    reason, permanent = _FAULTS[error.kind]
    return Fault(reason, error.message, permanent)
