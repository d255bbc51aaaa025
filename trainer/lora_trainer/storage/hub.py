"""hf://owner/name: models and data sets of a Hugging Face hub, or of a server that answers like one.

The field decides which: a base model is a model, everything else a data set. Plain HTTP, and not the hub's own client,
because that has one offline switch for the whole process, and transformers must stay offline. A repository is read at
one commit, whatever is pushed meanwhile. The token goes to the hub's own host only, and into no message.
"""

import json
import os
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from lora_api.exit_codes import ExitCode
from lora_api.names import HUB_TOKEN_VARIABLE
from lora_trainer.errors import TrainerError, invalid_request, not_found
from lora_trainer.storage.http import Http, StatusError
from lora_trainer.storage.location import Location, RemoteFile

ENDPOINT_VARIABLE = "HF_ENDPOINT"
_PUBLIC_HUB = "https://huggingface.co"
_MODEL_FIELD = "spec.baseModel"
_DEFAULT_REVISION = "main"
_LISTED_AT_ONCE = 1000
_NEXT_PAGE = re.compile(r'<([^>]+)>\s*;\s*rel="next"')
_ERROR_CODE, _ERROR_MESSAGE = "X-Error-Code", "X-Error-Message"
_WRONG_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105 - the hub's words, and no secret


class Repository(NamedTuple):
    """What an hf:// location names: `hf://owner/name[@revision][/path]`. An old model may have no owner."""

    kind: str
    """`models` or `datasets`, as the API calls them."""
    name: str
    revision: str
    path: str

    @classmethod
    def of(cls, location: Location) -> "Repository":
        """Parse a location."""
        kind = "models" if location.field.startswith(_MODEL_FIELD) else "datasets"
        rest = location.uri.removeprefix("hf://")
        if "@" in rest:
            name, _, tail = rest.partition("@")
            revision, _, path = tail.partition("/")
        else:
            parts = rest.split("/", 2)
            name, revision, path = "/".join(parts[:2]), _DEFAULT_REVISION, "".join(parts[2:])
        return cls(kind, name.rstrip("/"), revision, path.strip("/"))


class Hub:
    """Read access to one hub."""

    def __init__(self, endpoint: str, token: str | None, http: Http) -> None:
        if urlsplit(endpoint).scheme not in ("http", "https"):
            raise invalid_request(f"{ENDPOINT_VARIABLE}: {endpoint} is no URL", "write https://host")
        self._endpoint, self._http = endpoint.rstrip("/"), http
        self._headers = {"User-Agent": "lora-trainer"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._has_token = token is not None
        self._commits: dict[tuple[str, str, str], str] = {}

    @classmethod
    def from_environment(cls) -> "Hub":
        """Return the hub of HF_ENDPOINT with the token of HF_TOKEN."""
        token = os.environ.get(HUB_TOKEN_VARIABLE, "").strip()  # a Secret made from a file ends with a line break
        return cls(os.environ.get(ENDPOINT_VARIABLE) or _PUBLIC_HUB, token or None, Http())

    def commit_of(self, location: Location, revision: str) -> str:
        """Return the commit (40 hexadecimal digits) that a branch, tag or commit stands for, the same for the process.

        Raises `TrainerError`: 66 when the repository or the revision is not there, 77 without permission, or 69.
        """
        repository = Repository.of(location)
        known = (repository.kind, repository.name, revision)
        if known not in self._commits:
            answer = self._api(location, f"{repository.kind}/{repository.name}/revision/{quote(revision, safe='')}")
            commit = answer[0].get("sha") if isinstance(answer[0], dict) else None
            if not isinstance(commit, str):
                raise _strange(location)
            self._commits[known] = commit
        return self._commits[known]

    def list_files(self, folder: Location) -> list[RemoteFile]:
        """Return every file below a folder of the repository, ordered by path; empty when there is none."""
        repository = Repository.of(folder)
        commit = self._commit(folder, repository)
        tree = f"{repository.kind}/{repository.name}/tree/{commit}/{quote(repository.path)}".rstrip("/")
        url: str | None = f"{tree}?recursive=true&limit={_LISTED_AT_ONCE}"
        prefix, files = f"{repository.path}/" if repository.path else "", []
        while url:
            try:
                entries, url = self._api(folder, url)
            except _MissingEntryError:  # a folder that is not there, or a file
                return []
            files += [_remote_file(entry, prefix) for entry in entries if entry.get("type") == "file"]
        return sorted(files)

    def read(self, file: Location, start: int | None = None, length: int | None = None) -> bytes:
        """Return the content of a file, or at most `length` bytes of it from `start`."""
        first = start or 0
        span = {} if length is None else {"Range": f"bytes={first}-{first + length - 1}"}
        url = self._resolved(file)
        try:
            content = self._http.get(file, url, self._headers | span).content
        except StatusError as error:
            raise self._explain(error, file) from error
        if length is not None and len(content) > length:  # a server that knows no ranges gives the whole
            content = content[first : first + length]
        return content

    def download(self, file: Location, target: Path) -> None:
        """Write the content of a file to a local file."""
        url = self._resolved(file)
        try:
            self._http.download(file, url, self._headers, target)
        except StatusError as error:
            raise self._explain(error, file) from error

    def _commit(self, location: Location, repository: Repository) -> str:
        return self.commit_of(Location(f"hf://{repository.name}", location.field), repository.revision)

    def _resolved(self, file: Location) -> str:
        repository = Repository.of(file)
        folder = "" if repository.kind == "models" else f"{repository.kind}/"
        commit = self._commit(file, repository)
        return f"{self._endpoint}/{folder}{repository.name}/resolve/{commit}/{quote(repository.path)}"

    def _api(self, location: Location, path: str) -> tuple[Any, str | None]:
        """Return the JSON of an answer, and the path of its next page."""
        root = f"{self._endpoint}/api/"
        try:
            answer = self._http.get(location, root + path, self._headers)
        except StatusError as error:
            raise self._explain(error, location) from error
        following = _NEXT_PAGE.search(answer.headers.get("Link", ""))
        following_url = urljoin(root + path, following[1]) if following else None
        if following_url and not following_url.startswith(root):
            raise _strange(location)  # the token goes to no other host
        try:
            return json.loads(answer.content), following_url and following_url.removeprefix(root)
        except ValueError:
            raise _strange(location) from None

    def _explain(self, error: StatusError, location: Location) -> TrainerError:
        code = error.headers.get(_ERROR_CODE, "")
        token = "spec.baseModel.tokenSecretRef" if self._has_token else "a token (spec.baseModel.tokenSecretRef)"
        if code == "GatedRepo":
            return self._gated(location)
        if code == "RevisionNotFound":
            field = _revision_field(location)
            return not_found(f"{location}: there is no such revision", f"correct {field}: a branch, tag or commit")
        if code == "EntryNotFound":
            return _MissingEntryError(location)
        if error.headers.get(_ERROR_MESSAGE) == _WRONG_TOKEN:
            return _no_permission(f"{location}: the hub does not know the token", "put a valid one into the Secret")
        if code == "RepoNotFound" or error.status in (
            HTTPStatus.UNAUTHORIZED,
            HTTPStatus.NOT_FOUND,
        ):  # the hub says 401 for what it does not show
            hint = f"correct {location.field}; for a private repository give {token} of an account that may read it"
            return not_found(f"{location}: there is no such repository, or it is private", hint)
        if error.status == HTTPStatus.FORBIDDEN:
            return _no_permission(f"{location}: the hub refused the access", f"give {token} with the right to read it")
        return invalid_request(f"{location}: the hub answered {error.status}", "check HF_ENDPOINT")

    def _gated(self, location: Location) -> TrainerError:
        name_it = "the token of one that did in spec.baseModel.tokenSecretRef"
        if not self._has_token:
            hint = f"accept its terms on the hub with an account, and name {name_it}"
            return _no_permission(f"{location} is gated, and no token is given", hint)
        hint = f"accept its terms on the hub with that account, or name {name_it}"
        return _no_permission(f"{location} is gated, and the account of the token has no access to it", hint)


class _MissingEntryError(TrainerError):
    def __init__(self, location: Location) -> None:
        super().__init__(
            ExitCode.INPUT_NOT_FOUND,
            f"{location}: there is no such file in the repository",
            f"correct {location.field}",
        )


def _remote_file(entry: dict[str, Any], prefix: str) -> RemoteFile:
    large = entry.get("lfs") or {}
    size, tag = large.get("size", entry["size"]), large.get("oid", entry["oid"])
    return RemoteFile(entry["path"].removeprefix(prefix), size, tag)


def _revision_field(location: Location) -> str:
    return f"{_MODEL_FIELD}.revision" if location.field.startswith(_MODEL_FIELD) else location.field


def _no_permission(message: str, hint: str) -> TrainerError:
    return TrainerError(ExitCode.NO_PERMISSION, message, hint)


def _strange(location: Location) -> TrainerError:
    return invalid_request(f"{location}: the server does not answer like a hub", f"check {ENDPOINT_VARIABLE}")
