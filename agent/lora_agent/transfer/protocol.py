"""What the agent and its download program say to each other, and what both leave on disk: plain data, no I/O.

The request is one line of JSON on the program's standard input, each answer one line on its standard output. No key and
no token is in any of them: the program reads those from the mounted Secrets by itself.
"""

from lora_agent.faults import Fault
from lora_api.artifacts import FileEntry
from lora_api.base import SecretKeyReference, StatusModel
from lora_api.delivery import DesiredAdapter
from lora_api.reasons import Reason
from lora_api.sources import Storage

LINE_BYTES = 4 * 2**20
"""Longest line: a record of a thousand files takes 0.3 MB."""


class FaultError(Exception):
    """A fault on its way to the one who reports it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def fault_error(reason: Reason, message: str, *, permanent: bool = False) -> FaultError:
    """Return the exception for a fault."""
    return FaultError(Fault(reason, message, permanent))


class DownloadRequest(StatusModel):
    """One folder to fill."""

    uri: str
    revision: str | None = None
    digest: str | None = None
    """None: take what is there."""
    storage: Storage | None = None
    token_secret_ref: SecretKeyReference | None = None
    folder: str
    """An empty folder of this machine."""
    secrets: str
    """Folder with one folder a Secret."""
    room: int | None = None
    """Bytes that the store may still take; None: as many as the disk has."""

    @classmethod
    def of(cls, wanted: DesiredAdapter, folder: str, secrets: str, room: int | None) -> "DownloadRequest":
        """Return the request for a desired adapter."""
        return cls(
            uri=wanted.uri,
            revision=wanted.revision,
            digest=wanted.digest,
            storage=wanted.storage,
            token_secret_ref=wanted.token_secret_ref,
            folder=folder,
            secrets=secrets,
            room=room,
        )


class StoreRecord(StatusModel):
    """What one folder of the store holds; kept beside it, so that every byte can be checked again."""

    digest: str
    files: list[FileEntry]
    manifest: FileEntry | None = None
    """The manifest.json, if the folder has one; it is not part of the digest."""
    has_samples: bool = False
    """Whether the manifest has recorded samples to compare an engine with."""
    sources: list[str] = []
    """Where it was downloaded from, see `source_of`."""

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(entry.size for entry in self.entries)

    @property
    def entries(self) -> list[FileEntry]:
        """Every file of the folder."""
        return [*self.files, *([self.manifest] if self.manifest else [])]


class FaultLine(StatusModel):
    """A fault, as JSON."""

    reason: Reason
    message: str
    permanent: bool


class Line(StatusModel):
    """One answer: progress, or the end, which is a record or a fault."""

    done: int = 0
    """Bytes on disk."""
    total: int = 0
    """Bytes to come altogether; 0 while that is not known."""
    record: StoreRecord | None = None
    fault: FaultLine | None = None

    def encode(self) -> str:
        """Return the line, with its end."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True) + "\n"


def fault_line(fault: Fault) -> Line:
    """Return the last line of a download that failed."""
    return Line(fault=FaultLine(reason=fault.reason, message=fault.message, permanent=fault.permanent))


def source_of(wanted: DesiredAdapter) -> str:
    """Return what names the origin of the files, whatever their content is. Without keys or a query."""
    endpoint = (wanted.storage.endpoint if wanted.storage else None) or ""
    return "|".join((plain_uri(wanted.uri), wanted.revision or "", plain_uri(endpoint)))


def plain_uri(uri: str) -> str:
    """Return a URI without what may carry a secret: a query, a fragment, a user before the host."""
    scheme, separator, rest = uri.partition("://")
    rest = rest.partition("?")[0].partition("#")[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
