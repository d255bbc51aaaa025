"""https://host/path: one public file of the web. There is no folder to list, and nothing to write.

A name or password in the URL is refused, because whoever may read the job could read it.
"""

from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from lora_api.exit_codes import ExitCode
from lora_trainer.errors import TrainerError, invalid_request, not_found
from lora_trainer.storage.http import Http, StatusError
from lora_trainer.storage.location import Location, RemoteFile

_HEADERS = {"User-Agent": "lora-trainer"}
_REDIRECTS = range(300, 400)


class Web:
    """Read access to the web."""

    def __init__(self, http: Http | None = None) -> None:
        self._http = http or Http()

    def list_files(self, folder: Location) -> list[RemoteFile]:
        """Refuse: the web has no listings (64)."""
        raise invalid_request(f"{folder} cannot be listed", "name one file with https://, or use s3://")

    def read(self, file: Location, start: int | None = None, length: int | None = None) -> bytes:
        """Return the content of a file, or at most `length` bytes of it from `start`."""
        url = _checked(file)
        try:
            content = self._http.get(file, url, _HEADERS).content
        except StatusError as error:
            raise _explain(error, file) from error
        first = start or 0
        return content[first:] if length is None else content[first : first + length]

    def download(self, file: Location, target: Path) -> None:
        """Write the content of a file to a local file, piece by piece."""
        url = _checked(file)
        try:
            self._http.download(file, url, _HEADERS, target)
        except StatusError as error:
            raise _explain(error, file) from error


def _checked(file: Location) -> str:
    try:
        parts = urlsplit(file.uri)
    except ValueError:  # brackets that hold no IPv6 address
        parts = urlsplit("")
    if not parts.hostname or "@" in parts.netloc:
        hint = "write https://host/path; for what is not public use s3:// with credentials"
        raise invalid_request(f"{file} is not the URL of a public file", hint)
    return file.uri


def _explain(error: StatusError, file: Location) -> TrainerError:
    if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        message = f"{file}: the server refused the access ({error.status})"
        return TrainerError(ExitCode.NO_PERMISSION, message, "copy the file to S3 and name s3://bucket/path")
    if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return not_found(f"{file}: there is no such file", f"correct {file.field}")
    if error.status in _REDIRECTS:
        return invalid_request(f"{file} leads to a URL without https, or in circles", "name the file's final URL")
    return invalid_request(f"{file}: the server answered {error.status}", f"correct {file.field}")
