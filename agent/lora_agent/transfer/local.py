"""file:// for trials outside a cluster; the CRD does not accept such URIs."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from lora_agent.transfer.folder import PIECE_BYTES


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, uri: str) -> None:
        self._root = Path(unquote(uri.removeprefix("file://")))

    def size_of(self, name: str) -> int | None:
        """Return the size of a file."""
        path = self._root / name
        return path.stat().st_size if path.is_file() else None

    def pieces(self, name: str, start: int) -> Iterator[bytes]:
        """Give the content of a file."""
        with (self._root / name).open("rb") as file:
            file.seek(start)
            while piece := file.read(PIECE_BYTES):
                yield piece
