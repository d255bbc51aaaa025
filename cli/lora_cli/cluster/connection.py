"""Requests to the API server of the chosen context, as plain JSON documents.

Secrets are never read. A user may have rights in one namespace only, so nothing is discovered and nothing is read that
a command does not need; what may not be read raises `ForbiddenError`, which a command may take as "not known".
"""

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from lora_api.names import GROUP, VERSION
from lora_cli.errors import FAILED, CliError, failed, wrong_usage

Document = dict[str, Any]
_SECONDS = 30
"""For an answer of the API server."""
_STREAM_SECONDS = (30, 300)
"""To connect to a log, and between two lines of it; then it is asked for again."""
_PAGE = 500
_MANAGER = "kubectl-lora"


class Resource(NamedTuple):
    """A kind of objects, and where the API server has it."""

    kind: str
    path: str
    plural: str


LORAJOBS = Resource("LoRAJob", f"/apis/{GROUP}/{VERSION}", "lorajobs")
LORAADAPTERS = Resource("LoRAAdapter", f"/apis/{GROUP}/{VERSION}", "loraadapters")
JOBS = Resource("Job", "/apis/batch/v1", "jobs")
PODS = Resource("Pod", "/api/v1", "pods")
EVENTS = Resource("Event", "/api/v1", "events")


class ForbiddenError(CliError):
    """The caller may not do it (403)."""


class RefusedError(CliError):
    """The API server did not take an object; `causes` has a line for each field."""

    def __init__(self, message: str, causes: tuple[str, ...]) -> None:
        super().__init__(FAILED, message)
        self.causes = causes


class LogNotReadyError(CliError):
    """The container has no log yet, or its pod is gone."""


@dataclass(frozen=True)
class Cluster:
    """The API server of a context, and the namespace that is meant."""

    api: Any
    """`kubernetes.client.ApiClient`."""
    namespace: str

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Document | None:
        """Return an object, or None. Raises `ForbiddenError`, or a `CliError` when there is no answer."""
        status, body = self._ask("GET", _path(resource, namespace or self.namespace, name))
        if status == 404 and _is_status(body):
            return None
        self._check(status, body, f"get {resource.plural}", resource)
        return _parsed(body)

    def list(
        self, resource: Resource, *, everywhere: bool = False, selector: str = "", fields: str = ""
    ) -> list[Document]:
        """Return the objects of the namespace, or of all, that have some labels and fields."""
        path, more = _path(resource, None if everywhere else self.namespace), ""
        query = {"labelSelector": selector, "fieldSelector": fields, "limit": str(_PAGE)}
        found: list[Document] = []
        while True:
            asked = query | {"continue": more}
            status, body = self._ask("GET", path, {name: value for name, value in asked.items() if value})
            self._check(status, body, f"list {resource.plural}", resource, everywhere=everywhere)
            page = _parsed(body)
            found += page.get("items") or []
            more = (page.get("metadata") or {}).get("continue") or ""
            if not more:
                return found

    def apply(self, resource: Resource, document: Document, *, dry_run: bool = False) -> Document:
        """Apply an object server-side, and return it as the server has it. Raises `RefusedError`.

        The field manager is our own, and a field that another one owns is not taken from it.
        """
        metadata = document["metadata"]
        path = _path(resource, metadata.get("namespace") or self.namespace, metadata["name"])
        query = {"fieldManager": _MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        status, body = self._ask("PATCH", path, query, json.dumps(document))
        if status in (400, 409, 422) or (status == 403 and not _is_right(body)):
            said = _said(body)
            causes = (said.get("details") or {}).get("causes") or []
            raise RefusedError(
                said.get("message") or f"HTTP {status}",
                tuple(f"{each.get('field') or '?'}: {each.get('message') or ''}" for each in causes),
            )
        self._check(status, body, f"apply {resource.plural}", resource)
        return _parsed(body)

    def log(self, pod: Document, container: str, *, follow: bool = False, **query: str) -> Iterator[str]:
        """Yield the lines of a container's log. Raises `LogNotReadyError`, also when the stream is cut."""
        metadata = pod["metadata"]
        path = _path(PODS, metadata["namespace"], metadata["name"]) + "/log"
        asked = {"container": container, **({"follow": "true"} if follow else {}), **query}
        response = self._send("GET", path, asked, seconds=_STREAM_SECONDS)
        if response.status in (400, 404, 500, 502, 503):  # no container, no pod, or no kubelet that answers
            raise LogNotReadyError(FAILED, f"pod {metadata['name']} has no log: {_message(response.read())}")
        if response.status != 200:
            self._check(response.status, response.read(), "get pods/log", PODS)
        yield from _lines(response.response, metadata["name"])

    def _ask(self, method: str, path: str, query: Document | None = None, body: str = "") -> tuple[int, bytes]:
        response = self._send(method, path, query, body)
        return response.status, response.read() or b""

    def _send(
        self, method: str, path: str, query: Document | None = None, body: str = "", seconds: Any = _SECONDS
    ) -> Any:
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/apply-patch+yaml"} if body else {})
        prepared = self.api.param_serialize(
            method=method,
            resource_path=path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body or None,
            auth_settings=["BearerToken"],
        )
        try:
            return self.api.call_api(*prepared[:5], _request_timeout=seconds)
        except Exception as error:  # the client lets errors of urllib3, ssl and exec plugins through
            raise failed(
                f"the API server {self.api.configuration.host} does not answer: {_innermost(error)}",
                "check --context and the network, with `kubectl version`",
            ) from None

    def _check(self, status: int, body: bytes, what: str, resource: Resource, *, everywhere: bool = False) -> None:
        if status < 300:
            return
        if status == 401:
            raise failed("the API server does not know you", "log in again: `kubectl auth whoami` must work")
        if status == 403:
            where = "all namespaces" if everywhere else f"namespace {self.namespace}"
            raise ForbiddenError(
                FAILED, f"you may not {what} in {where}", "ask for the right, or name a namespace with -n"
            )
        if status == 404 and not _is_status(body):
            raise failed(f"the cluster knows no {resource.kind}", "install the operator: its CRDs are missing")
        raise failed(f"the API server refused to {what}: {_message(body)}")


def connect(kubeconfig: str | None, context: str | None, namespace: str | None) -> Cluster:
    """Return the cluster of a kubeconfig's context; in a pod without a kubeconfig, its own. Raises `CliError`."""
    try:
        kubernetes: Any = importlib.import_module("kubernetes")  # half a second that local commands need not wait
    except ImportError:
        raise failed("the package kubernetes is missing", "pip install 'lora-operator[cli]'") from None
    client, config = kubernetes.client, kubernetes.config
    try:
        contexts, current = config.list_kube_config_contexts(config_file=kubeconfig)
        named = next((each for each in contexts if each["name"] == context), None) if context else current
        if named is None:
            raise wrong_usage(f"the kubeconfig has no context {context!r}", "see `kubectl config get-contexts`")
        api = config.new_client_from_config(config_file=kubeconfig, context=named["name"], persist_config=False)
        return Cluster(api, namespace or named["context"].get("namespace") or "default")
    except (config.ConfigException, OSError) as error:
        if kubeconfig or context:
            raise wrong_usage(f"the kubeconfig cannot be used: {error}", "check --kubeconfig and --context") from None
    try:
        settings = type.__call__(client.Configuration)
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        raise failed("there is no kubeconfig", "set KUBECONFIG, or give --kubeconfig FILE") from None
    return Cluster(client.ApiClient(settings), namespace or "default")


def _path(resource: Resource, namespace: str | None, name: str = "") -> str:
    space = f"/namespaces/{namespace}" if namespace else ""
    return f"{resource.path}{space}/{resource.plural}" + (f"/{name}" if name else "")


def _lines(stream: Any, pod: str) -> Iterator[str]:
    rest = b""
    try:
        for chunk in stream.stream(2**16):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (each.decode(errors="replace") for each in whole)
    except Exception as error:
        raise LogNotReadyError(FAILED, f"the log of pod {pod} broke off: {_innermost(error)}") from None
    finally:
        stream.release_conn()
    if rest:
        yield rest.decode(errors="replace")


def _said(body: bytes) -> Document:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _parsed(body: bytes) -> Document:
    said = _said(body)
    if not said:
        raise failed("the API server answered with something that is no JSON", "check the address in the kubeconfig")
    return said


def _is_status(body: bytes) -> bool:
    """Return whether a 404 speaks of an object, and not of a kind that the server does not have."""
    return bool((_said(body).get("details") or {}).get("name"))


def _is_right(body: bytes) -> bool:
    """Return whether a 403 is a missing right; else it is the word of an admission rule."""
    return 'User "' in str(_said(body).get("message")) and " cannot " in str(_said(body).get("message"))


def _message(body: bytes) -> str:
    return str(_said(body).get("message") or body.decode(errors="replace").strip())[:500] or "no reason given"


def _innermost(error: BaseException) -> str:
    """Return the cause at the bottom, without the addresses of objects that urllib3 puts before it."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _innermost(reason)
    return str(error).rpartition(">: ")[2].splitlines()[0][:300] if str(error) else type(error).__name__
