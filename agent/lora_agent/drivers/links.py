"""Symbolic links from a served name to the folder of a version, for engines that find adapters by folder.

A link is swapped by a rename, so a reader sees the old version or the new one, whole, and never a mixture. Targets are
relative: the volume may be mounted elsewhere in the engine. What is no link was put there by somebody else and is left
alone.
"""

import os
from pathlib import Path

from lora_agent.drivers.base import EngineError, ErrorKind

_NEW = ".new-"


def publish(folder: Path, name: str, target: Path) -> None:
    """Let `folder/name` lead to the target. Raises ALREADY_LOADED if something else than a link is there."""
    link = _link(folder, name)
    if link.exists() and not link.is_symlink():
        raise EngineError(
            ErrorKind.ALREADY_LOADED, f"{link} is not a link of the agent: remove it or take another name"
        )
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f"{_NEW}{name}"
    new.unlink(missing_ok=True)  # of a process that died between the next two lines
    new.symlink_to(os.path.relpath(target, folder))
    new.replace(link)


def remove(folder: Path, name: str) -> None:
    """Remove a link, if it is there."""
    link = _link(folder, name)
    if link.is_symlink():
        link.unlink()


def published(folder: Path) -> dict[str, Path]:
    """Return the target of each link, by name."""
    if not folder.is_dir():
        return {}
    links = [each for each in folder.iterdir() if each.is_symlink() and not each.name.startswith(".")]
    return {each.name: target_of(each) for each in links}


def target_of(link: Path) -> Path:
    """Return the absolute path that a link leads to, whether it exists or not."""
    return Path(os.path.normpath(link.parent / link.readlink()))


def _link(folder: Path, name: str) -> Path:
    if not name or "/" in name or name.startswith("."):
        raise EngineError(ErrorKind.REFUSED, f"{name!r} cannot be the name of a folder: take another served name")
    return folder / name
