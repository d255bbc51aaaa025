"""The dashboard as it was deployed: its pod, its page by way of its Service, a job from start to end, its rights."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest

from demo.kubectl import condition, items, kubectl, run
from generate.dashboard import NAME
from generate.install import NAMESPACE
from lora_operator.dashboard.server import HEADERS
from support.lorajobs import LoRAJobs
from support.wait import wait_for

SECONDS = 30
"""Within which the page shows what the API server has; a second or two is usual."""
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{NAME}"
PODS = "app.kubernetes.io/name=lora-operator,app.kubernetes.io/component=dashboard"


@dataclass(frozen=True)
class Answer:
    """What the page said."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, which must be JSON."""
        return json.loads(self.body)


class Page:
    """The page at an address of this machine."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ask(self, method: str, path: str, **headers: str) -> Answer:
        """Return an answer."""
        with self._open(method, path, headers) as response:
            return Answer(response.status, dict(response.headers.items()), response.read())

    def first_event(self) -> str:
        """Return the first line of the stream."""
        with self._open("GET", "/api/events", {}) as response:
            return response.readline().decode().strip()

    def row(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return the row of a job, or None while there is none."""
        rows = self.ask("GET", f"/api/jobs?namespace={namespace}").json()["rows"]
        return next((dict(each) for each in rows if each["name"] == name), None)

    @contextmanager
    def _open(self, method: str, path: str, headers: dict[str, str]) -> Iterator[HTTPResponse]:
        connection = HTTPConnection(self._address, timeout=SECONDS)
        try:
            connection.request(method, path, headers=headers)
            yield connection.getresponse()
        finally:
            connection.close()


@pytest.fixture(scope="module", autouse=True)
def ready() -> None:
    """Wait until the dashboard that was deployed is ready."""
    kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{NAME}", "--timeout=180s")


@pytest.fixture
def page() -> Iterator[Page]:
    """Return the page, by way of its Service."""
    command = ["kubectl", "-n", NAMESPACE, "port-forward", f"service/{NAME}", ":80"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarding:
        try:
            said = forwarding.stdout.readline() if forwarding.stdout else ""
            address = said.removeprefix("Forwarding from ").partition(" ")[0]
            assert address, f"{' '.join(command)} said {said!r}"
            yield Page(address)
        finally:
            forwarding.terminate()


def test_its_pod_is_ready_where_pods_must_be_restricted() -> None:
    labels = json.loads(kubectl("get", "namespace", NAMESPACE, "-o", "json"))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = [each for each in items(NAMESPACE, "pods", PODS) if "deletionTimestamp" not in each["metadata"]]
    assert pods
    for pod in pods:
        (state,) = pod["status"]["containerStatuses"]
        assert condition(pod, "Ready").get("status") == "True", state
        assert pod["spec"]["serviceAccountName"] == NAME


def test_the_page_is_served_and_may_load_nothing_from_elsewhere(page: Page) -> None:
    answer = page.ask("GET", "/")
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
    assert b'src="static/main.js"' in answer.body
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    script = page.ask("GET", "/static/main.js")
    assert (script.status, script.headers["Content-Type"].partition(";")[0]) == (200, "text/javascript")


def test_it_shows_a_job_from_its_start_to_its_end(s3: Any, jobs: LoRAJobs, page: Page) -> None:
    """The job fails in its preflight, which takes seconds."""
    absent = {"uri": "s3://models/no-such-model"}
    name = jobs.apply(jobs.sample("shown", baseModel=absent, suspend=True))

    def shown() -> dict[str, Any]:
        return page.row(jobs.namespace, name) or {}

    wait_for("the suspended job", lambda: shown().get("phase") == "Suspended", seconds=SECONDS, state=shown)
    assert shown()["base"] == absent["uri"]

    kubectl("-n", jobs.namespace, "patch", "lorajob", name, "--type=merge", "-p", '{"spec":{"suspend":false}}')
    status = jobs.wait_for(name, "Failed")["status"]
    wait_for("the failed job", lambda: shown().get("phase") == "Failed", seconds=SECONDS, state=shown)
    assert shown()["reason"] == status["failure"]["reason"] == "InputNotFound"
    details = page.ask("GET", f"/api/jobs/{jobs.namespace}/{name}").json()
    assert "s3://models/no-such-model" in details["explanation"]["message"]
    assert details["explanation"]["hint"] == status["failure"]["hint"]

    kubectl("-n", jobs.namespace, "delete", "lorajob", name, "--wait=false")
    wait_for("a page without the job", lambda: not shown(), seconds=SECONDS, state=shown)


def test_a_stream_tells_of_changes(page: Page) -> None:
    assert page.first_event() == "event: changed"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_but_get_is_answered(page: Page, method: str) -> None:
    answer = page.ask(method, "/api/jobs")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize(
    ("host", "status"),
    [(f"{NAME}.{NAMESPACE}.svc", 200), ("localhost:8080", 200), ("evil.example", 421), ("localhost.evil.example", 421)],
)
def test_only_names_of_the_cluster_are_answered(page: Page, host: str, status: int) -> None:
    assert page.ask("GET", "/api/jobs", Host=host).status == status


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        *((verb, "lorajobs", "yes") for verb in ("get", "list", "watch")),
        *((verb, "loraadapters", "yes") for verb in ("get", "list", "watch")),
        *((verb, "lorajobs", "no") for verb in ("create", "update", "patch", "delete")),
        ("patch", "lorajobs/status", "no"),
        *((verb, "secrets", "no") for verb in ("get", "list", "watch")),
        *((verb, "pods", "no") for verb in ("get", "list", "create")),
        ("get", "pods/log", "no"),
        ("create", "pods/exec", "no"),
        ("list", "events", "no"),
        ("list", "configmaps", "no"),
        ("list", "namespaces", "no"),
        ("*", "*", "no"),
    ],
)
def test_its_account_may_read_its_two_kinds_and_nothing_else(verb: str, resource: str, allowed: str) -> None:
    answered = run("auth", "can-i", verb, resource, "--all-namespaces", f"--as={ACCOUNT}")
    assert answered.stdout.strip() == allowed, answered.stderr
