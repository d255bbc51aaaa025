"""A server that answers like a Hugging Face hub: model info, tree in pages, files behind a redirect to another host.

What it answers, with which headers, was taken from the documentation and the client of the hub; `requests` holds what
it was asked, so that a test can say what was never downloaded and where the token went.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 3
"""Entries of a page of the tree, so few that every listing has several."""
_LARGE = (".safetensors", ".parquet")


@dataclass
class HubRepository:
    """Files at one commit, which some names of revisions stand for."""

    files: dict[str, bytes]
    commit: str = "c0ffee" + 34 * "0"
    revisions: tuple[str, ...] = ("main", "refs/pr/1")
    gated: bool = False
    private: bool = False

    @classmethod
    def of(cls, folder: Path, **options: Any) -> "HubRepository":
        """Return a repository with the files of a folder."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return cls(files, **options)


@dataclass
class HubServer:
    """A running server. `members` are the tokens that may read gated and private repositories."""

    repositories: dict[str, HubRepository]
    """By `models/owner/name` or `datasets/owner/name`."""
    members: tuple[str, ...] = ("hf_member",)
    accounts: tuple[str, ...] = ("hf_stranger",)
    url: str = ""
    files_url: str = ""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Server (`hub` or `files`), path and headers of each request."""
    failures: list[int] = field(default_factory=list)
    """Answers to give before the right ones; 0 cuts the content off in the middle."""

    def downloaded(self) -> list[str]:
        """Return the paths of the files that were asked for whole."""
        return [path for _, path, headers in self.requests if "/resolve/" in path and "Range" not in headers]


@contextmanager
def hub_server(**repositories: dict[str, HubRepository]) -> Iterator[HubServer]:
    """Serve repositories, given as `models={...}` and `datasets={...}` by owner/name."""
    named = {f"{kind}/{name}": each for kind, group in repositories.items() for name, each in group.items()}
    server = HubServer(named)
    hub, files = (
        ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": server, "kind": kind}))
        for kind in ("hub", "files")
    )
    server.url, server.files_url = (f"http://127.0.0.1:{each.server_port}" for each in (hub, files))
    for each in (hub, files):
        threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        for each in (hub, files):
            each.shutdown()
            each.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    kind: str

    def do_GET(self) -> None:
        self.hub.requests.append((self.kind, self.path, dict(self.headers)))
        status = self.hub.failures.pop(0) if self.hub.failures else None
        if status:
            return self._answer(status, b"")
        if self.kind == "files":
            _, name, path = unquote(self.path).split("|")
            return self._content(self.hub.repositories[name].files[path], cut=status == 0)
        parts = urlsplit(self.path)
        path = unquote(parts.path).removeprefix("/")
        if path.startswith("api/"):
            return self._api(path.removeprefix("api/"), parse_qs(parts.query))
        return self._resolve(path, cut=status == 0)

    def _api(self, path: str, query: dict[str, list[str]]) -> None:
        name, rest = self._split(path)
        repository = self._readable(name)
        if repository is None:
            return None
        action, _, tail = rest.partition("/")
        if action == "revision":
            if tail not in (repository.commit, *repository.revisions):
                return self._error(404, "RevisionNotFound")
            body = {"id": name.partition("/")[2], "sha": repository.commit, "gated": repository.gated}
            return self._answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return self._tree(repository, tail.partition("/")[2], int(query.get("cursor", ["0"])[0]))

    def _tree(self, repository: HubRepository, folder: str, start: int) -> None:
        chosen = sorted(path for path in repository.files if not folder or path.startswith(f"{folder}/"))
        if not chosen:
            return self._error(404, "EntryNotFound")
        entries = [{"type": "directory", "oid": "d", "size": 0, "path": "x"}] if start == 0 else []
        entries += [_entry(path, repository.files[path]) for path in chosen[start : start + PAGE]]
        more = start + PAGE < len(chosen)
        following = f"{self.hub.url}{urlsplit(self.path).path}?recursive=true&cursor={start + PAGE}"
        headers = {"Link": f'<{following}>; rel="next"'} if more else {}
        return self._answer(200, json.dumps(entries).encode(), headers)

    def _resolve(self, path: str, *, cut: bool) -> None:
        path = path if path.startswith("datasets/") else f"models/{path}"
        name, rest = self._split(path)
        repository = self._readable(name)
        if repository is None:
            return None
        if repository.gated and self._token() not in self.hub.members:
            return self._error(403 if self._token() else 401, "GatedRepo", "Access to this is restricted.")
        file = rest.removeprefix("resolve/").partition("/")[2]
        if file not in repository.files:
            return self._error(404, "EntryNotFound")
        if file.endswith(_LARGE):
            headers = {"Location": f"{self.hub.files_url}/cdn|{name}|{file}", "X-Repo-Commit": repository.commit}
            return self._answer(302, b"", headers)
        return self._content(repository.files[file], cut=cut)

    def _readable(self, name: str) -> HubRepository | None:
        repository, token = self.hub.repositories.get(name), self._token()
        if token and token not in self.hub.members + self.hub.accounts:
            self._error(401, "", "Invalid credentials in Authorization header")
        elif repository is None or (repository.private and token not in self.hub.members):
            self._error(404 if token else 401, "RepoNotFound", "Repository not found")
        else:
            return repository
        return None

    def _split(self, path: str) -> tuple[str, str]:
        group, owner, name, rest = path.split("/", 3)
        return f"{group}/{owner}/{name}", rest

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _content(self, content: bytes, *, cut: bool) -> None:
        tag, wanted = f'"{hashlib.sha256(content).hexdigest()}"', self.headers.get("Range")
        if wanted and self.headers.get("If-Range", tag) == tag:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(int(last) + 1 if last else len(content), len(content))
            headers = {"ETag": tag, "Content-Range": f"bytes {first}-{end - 1}/{len(content)}"}
            return self._answer(206, content[int(first) : end], headers)
        return self._answer(200, content, {"ETag": tag}, cut=cut)

    def _error(self, status: int, code: str, message: str = "") -> None:
        return self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _entry(path: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    large = {"lfs": {"oid": digest, "size": len(content), "pointerSize": 134}} if path.endswith(_LARGE) else {}
    return {"type": "file", "oid": digest[:40], "size": len(content), "path": path, **large}
