"""Reads what the pod is to serve from the file that the kubelet keeps in step with the pod's annotation.

A file that is missing or empty means that nothing is known, never that nothing is desired: an operator that is away, or
a kubelet that just swaps the file, must unload nothing. A text that does not parse changes nothing either.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from lora_api.delivery import Desired
from lora_api.names import DESIRED_ANNOTATION

_LIMIT = 2**20
"""Bytes. All annotations of an object together may have a quarter of it."""


@dataclass(frozen=True, slots=True)
class DesiredView:
    """The last good text, and what is wrong with a newer one."""

    desired: Desired | None = None
    """None: no good text has been seen."""
    digest: str = ""
    """SHA-256 of its text in hexadecimal."""
    trouble: str = ""
    """Why the newest text is not followed; empty if it is."""


class DesiredFile:
    """The file, looked at again and again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: bytes | None = None
        self._view = DesiredView()

    def read(self) -> DesiredView:
        """Return the same object for as long as the text stays the same."""
        content = self._content()
        if content is None or content == self._seen:
            return self._view
        self._seen = content
        self._view = view_of(content, self._view)
        return self._view

    def _content(self) -> bytes | None:
        try:
            with self._path.open("rb") as file:
                content = file.read(_LIMIT + 1)
        except OSError:
            return None
        return content if content.strip() else None


def view_of(content: bytes, before: DesiredView) -> DesiredView:
    """Return what a text means, after another one."""
    try:
        desired = _parsed(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        return replace(before, trouble=f"{DESIRED_ANNOTATION}: {field}: {first['msg']}")
    except ValueError as error:
        return replace(before, trouble=f"{DESIRED_ANNOTATION}: {error}")
    return DesiredView(desired, hashlib.sha256(content).hexdigest())


def _parsed(content: bytes) -> Desired:
    if len(content) > _LIMIT:
        raise ValueError(f"it is longer than {_LIMIT} bytes")
    desired = Desired.model_validate_json(content)
    names = [each.name for each in desired.adapters]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"adapters: {twice[0]} is there twice")
    return desired
