"""hf://owner/name[/path]: a folder of a model repository of a Hugging Face hub, or of a server that answers like one.

A repository is read at one commit, whatever is pushed meanwhile. The token goes to the hub's own host only, and into no
message. A redirect never leads from https to http.
"""

import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from functools import cached_property
from http.client import HTTPMessage
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from lora_agent.transfer.folder import PIECE_BYTES, BrokenOffError
from lora_agent.transfer.protocol import FaultError, fault_error, plain_uri
from lora_api.reasons import Reason

ENDPOINT_VARIABLE = "HF_ENDPOINT"
_PUBLIC_HUB = "https://huggingface.co"
_SILENCE_SECONDS = 20
"""To connect, and between two pieces of an answer."""
_ANSWER_BYTES = 4 * 2**20
_PAGES = 50
"""Of the listing of one folder: 50,000 files."""
_NEXT_PAGE = re.compile(r'<([^>]+)>\s*;\s*rel="next"')
_BUSY = {408, 425, 429, 500, 502, 503, 504}


class HubFolder:
    """A folder of a repository at the commit that the revision stands for when it is first used."""

    def __init__(self, uri: str, revision: str | None, token: str | None, endpoint: str | None = None) -> None:
        self._uri = plain_uri(uri)
        owner, name, *path = uri.removeprefix("hf://").strip("/").split("/")
        self._repository, self._path = f"{owner}/{name}", "/".join(path)
        self._revision = revision or "main"
        self._endpoint = (endpoint or os.environ.get(ENDPOINT_VARIABLE) or _PUBLIC_HUB).rstrip("/")
        if urlsplit(self._endpoint).scheme not in ("http", "https"):
            raise fault_error(Reason.INVALID_SPEC, f"{ENDPOINT_VARIABLE} of the pod is no URL; write https://host")
        self._headers = {"User-Agent": "lora-agent"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._opener = urllib.request.build_opener(_Redirects())

    def size_of(self, name: str) -> int | None:
        """Return the size of a file."""
        return self._sizes.get(f"{self._path}/{name}" if self._path else name)

    def pieces(self, name: str, start: int) -> Iterator[bytes]:
        """Give the content of a file."""
        path = quote(f"{self._path}/{name}" if self._path else name)
        url = f"{self._endpoint}/{self._repository}/resolve/{self._commit}/{path}"
        rest = {"Range": f"bytes={start}-"} if start else {}
        with self._open(url, rest) as answer:
            to_skip = start if answer.status != http.client.PARTIAL_CONTENT else 0
            while piece := answer.read(PIECE_BYTES):
                skipped = min(to_skip, len(piece))
                to_skip -= skipped
                if piece[skipped:]:
                    yield piece[skipped:]
            if answer.length:  # what is missing; a read with a limit says nothing about it
                raise BrokenOffError("the hub broke off in the middle of a file")

    @cached_property
    def _commit(self) -> str:
        path = f"models/{self._repository}/revision/{quote(self._revision, safe='')}"
        answer, _ = self._ask(path)
        commit = answer.get("sha") if isinstance(answer, dict) else None
        if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{7,64}", commit):
            raise self._strange()
        return commit

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Sizes of the files of the folder by their path in the repository; empty when there is no such folder."""
        path = f"models/{self._repository}/tree/{self._commit}/{quote(self._path)}".rstrip("/")
        following: str | None = path
        sizes: dict[str, int] = {}
        for _ in range(_PAGES):
            if following is None:
                break
            try:
                entries, following = self._ask(following)
            except _MissingFolderError:
                return {}
            try:
                sizes |= {each["path"]: int(each["size"]) for each in entries if each.get("type") == "file"}
            except (AttributeError, KeyError, TypeError, ValueError):
                raise self._strange() from None
        return sizes

    def _ask(self, path: str) -> tuple[Any, str | None]:
        """Return the JSON of an answer, and the path of its next page."""
        root = f"{self._endpoint}/api/"
        with self._open(root + path, {}) as answer:
            content = answer.read(_ANSWER_BYTES + 1)
            link = _NEXT_PAGE.search(answer.headers.get("Link", ""))
        following = urljoin(root + path, link[1]) if link else None
        if len(content) > _ANSWER_BYTES or (following and not following.startswith(root)):
            raise self._strange()  # the token goes to no other host
        try:
            return json.loads(content), following and following.removeprefix(root)
        except ValueError:
            raise self._strange() from None

    @contextmanager
    def _open(self, url: str, headers: dict[str, str]) -> Iterator[Any]:
        request = urllib.request.Request(url, headers=self._headers | headers)  # noqa: S310 - the endpoint is http(s)
        try:
            with self._opener.open(request, timeout=_SILENCE_SECONDS) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            with error:
                raise self._explain(error.code, error.headers) from None
        except (OSError, http.client.HTTPException) as error:
            raise BrokenOffError(f"the hub did not answer ({_name(error)})") from None

    def _explain(self, status: int, headers: Message) -> Exception:
        code = headers.get("X-Error-Code", "")
        if status in _BUSY:
            return BrokenOffError(f"the hub is unavailable ({status})")
        if code == "EntryNotFound":
            return _MissingFolderError(self._uri)
        if code == "RevisionNotFound":
            message = f"{self._uri}: there is no revision {self._revision}; correct spec.source.revision"
            return fault_error(Reason.INPUT_NOT_FOUND, message)
        token = "the account of spec.source.tokenSecretRef" if "Authorization" in self._headers else "a token"
        if code == "GatedRepo" or status == 403:
            message = f"{self._uri}: the hub refused the access; give {token} the right to read it"
            return fault_error(Reason.NO_PERMISSION, message)
        if status == 401 and code != "RepoNotFound":
            message = f"{self._uri}: the hub does not know the token; put a valid one into spec.source.tokenSecretRef"
            return fault_error(Reason.NO_PERMISSION, message)
        if status in (401, 404):  # the hub says 401 for what it does not show
            message = f"{self._uri}: there is no such repository, or it is private; correct spec.source.uri, "
            return fault_error(Reason.INPUT_NOT_FOUND, f"{message}or give {token} that may read it")
        return fault_error(Reason.INVALID_SPEC, f"{self._uri}: the hub answered {status}; check {ENDPOINT_VARIABLE}")

    def _strange(self) -> FaultError:
        message = f"{self._uri}: the server does not answer like a hub; check {ENDPOINT_VARIABLE} of the pod"
        return fault_error(Reason.SERVICE_UNAVAILABLE, message)


class _MissingFolderError(FaultError):
    def __init__(self, uri: str) -> None:
        super().__init__(fault_error(Reason.INPUT_NOT_FOUND, f"{uri}: there is no such folder").fault)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme != "https" and (before.scheme, after.scheme) != ("http", "http"):
            raise fault_error(Reason.INVALID_SPEC, "the hub redirects to an address without https; check HF_ENDPOINT")
        followed = super().redirect_request(req, fp, code, msg, headers, newurl)
        if followed is not None and (before.scheme, before.netloc) != (after.scheme, after.netloc):
            followed.remove_header("Authorization")
        return followed


def _name(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return type(reason if isinstance(reason, BaseException) else error).__name__
