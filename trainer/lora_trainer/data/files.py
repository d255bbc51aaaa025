"""The files of a data source: one file, a folder or a pattern, brought to this machine and named by their content.

A file on disk has a number for a name: what a bucket calls its objects decides no path here.
"""

import hashlib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lora_trainer.data.records import SUFFIXES
from lora_trainer.errors import invalid_request, not_found
from lora_trainer.storage.access import Storage
from lora_trainer.storage.location import Location

_PARALLEL_FILES = 4
_WILDCARD = re.compile(r"[*?\[]")
_SPLITS = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev", "test")}


@dataclass(frozen=True)
class DataFile:
    """One file of a source, on this machine."""

    name: str
    """Path relative to the folder of the source."""
    location: Location
    path: Path
    sha256: str

    @property
    def place(self) -> str:
        """How a complaint names the file."""
        return str(self.location)


def fetch_files(storage: Storage, source: Location, target: Path) -> list[DataFile]:
    """Download the files of a source into an empty folder, in the order of their names.

    Raises `TrainerError`: 66 when there is none, 64 when it is of a kind that is not read.
    """
    found = find_files(storage, source)
    numbered = [(name, place, target / f"{number:06d}") for number, (name, place) in enumerate(found)]
    pool = ThreadPoolExecutor(_PARALLEL_FILES)
    try:
        return list(pool.map(lambda file: _fetch(storage, *file), numbered))
    finally:  # after a failure or a signal, do not wait for the other files
        pool.shutdown(wait=False, cancel_futures=True)


def find_files(storage: Storage, source: Location) -> list[tuple[str, Location]]:
    """Return the data files that a source means, each with its name relative to the source, ordered by name."""
    if _has_wildcard(source):
        return _matching(storage, source)
    name = _last(source)
    if not source.uri.endswith("/") and name.lower().endswith(SUFFIXES):
        return [(name, source)]
    if source.scheme == "https":
        raise _unreadable(source)
    listed = [file.path for file in storage.list_files(source)]
    visible = [path for path in listed if not any(part.startswith((".", "_")) for part in path.split("/"))]
    found = sorted(path for path in visible if path.lower().endswith(SUFFIXES))
    if not found:
        raise (
            _unreadable(source)
            if listed or "." in name
            else not_found(f"{source}: there is no file in this folder", f"correct {source.field}")
        )
    chosen = files_of_split(source, found) if source.scheme == "hf" else found
    return [(path, source / path) for path in chosen]


def digest_of_files(files: Iterable[DataFile]) -> str:
    """Return the SHA-256 (hex) of names and contents: where the folder lies does not matter."""
    lines = "".join(f"{file.name}\n{file.sha256}\n" for file in sorted(files, key=lambda file: file.name))
    return hashlib.sha256(lines.encode()).hexdigest()


def pattern_of(glob: str) -> re.Pattern[str]:
    """Return the expression for a pattern in which `**` crosses folders, and `*`, `?` and `[…]` do not."""
    meanings = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = []
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])", glob):
        if part.startswith("[") and part.endswith("]"):
            parts.append("[" + re.sub(r"^!", "^", part[1:-1]).replace("\\", r"\\") + "]")
        else:
            parts.append(meanings.get(part) or re.escape(part))
    return re.compile("".join(parts))


def files_of_split(source: Location, names: list[str]) -> list[str]:
    """Return the files of a hub data set that are meant: it holds all its splits in one folder.

    Raises a `TrainerError` (66) where files are named after splits, and none after the one that is meant.
    """
    words = {name: set(re.split(r"[^a-z]+", name.lower())) for name in names}
    every = {word for split in _SPLITS.values() for word in split}
    if not any(each & every for each in words.values()):
        return names
    wanted = _SPLITS["validation" if ".validation" in source.field else "train"]
    for word in wanted:
        chosen = [name for name in names if word in words[name]]
        if chosen:
            return chosen
    raise not_found(
        f"{source}: no file is named after the split {wanted[0]}", f"use another data set in {source.field}"
    )


def _has_wildcard(source: Location) -> bool:
    return source.scheme != "https" and bool(_WILDCARD.search(source.uri))  # in a web address, ? begins a query


def _matching(storage: Storage, source: Location) -> list[tuple[str, Location]]:
    fixed = source.uri[: _WILDCARD.search(source.uri).start()]  # type: ignore[union-attr] - it has one
    folder = Location(fixed[: fixed.rfind("/")], source.field)
    pattern = pattern_of(source.uri[len(folder.uri) + 1 :])
    matching = [file.path for file in storage.list_files(folder) if pattern.fullmatch(file.path)]
    if not matching:
        raise not_found(f"{source}: no file matches", f"correct {source.field}; ** crosses folders, * does not")
    found = sorted(path for path in matching if path.lower().endswith(SUFFIXES))
    if not found:
        raise _unreadable(source)
    return [(path, folder / path) for path in found]


def _fetch(storage: Storage, name: str, location: Location, path: Path) -> DataFile:
    storage.download(location, path)
    with path.open("rb") as content:
        return DataFile(name, location, path, hashlib.file_digest(content, "sha256").hexdigest())


def _last(location: Location) -> str:
    path = location.uri.partition("?")[0] if location.scheme == "https" else location.uri
    return path.rstrip("/").rpartition("/")[2]


def _unreadable(source: Location) -> Exception:
    return invalid_request(
        f"{source}: there is no data file of a kind that is read", f"use files that end with {', '.join(SUFFIXES)}"
    )
