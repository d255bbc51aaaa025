"""The dashboard against a real API server: what it shows, how soon, and to whom."""

import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from browser import samples
from generate.dashboard import Dashboard, dashboard_objects
from support.apiserver import ApiServer
from support.objects import Objects
from support.wait import wait_for

Start = Callable[..., Any]
Viewer = Callable[[str], str]
SECRET = "kept-9f31"


def create(objects: Objects, name: str, status: dict[str, Any], **spec: Any) -> None:
    """Create a LoRAJob with a status."""
    made = samples.job(name, objects.namespace, **spec)
    objects.create({key: made[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": name}})
    objects.set_status("LoRAJob", name, status)


def create_adapter(objects: Objects, name: str) -> None:
    """Create a LoRAAdapter whose new version reaches its pods."""
    made = samples.adapter(name, objects.namespace)
    objects.create({key: made[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": name}})
    objects.set_status("LoRAAdapter", name, samples.rolling())


@pytest.mark.parametrize("wanted", [Dashboard(), Dashboard(auth="passthrough", hosts=("lora.example.org",))])
def test_the_server_takes_the_objects_and_the_pod_is_restricted(server: ApiServer, wanted: Dashboard) -> None:
    server.run_kubectl("label", "namespace", "lora-system", "pod-security.kubernetes.io/warn=restricted", "--overwrite")
    documents = yaml.safe_dump_all(dashboard_objects(wanted))
    done = server.run_kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=documents)
    assert (done.returncode, done.stderr) == (0, "")
    assert "deployment.apps/lora-operator-dashboard" in done.stdout


def test_jobs_and_adapters_are_shown_as_the_server_has_them(start: Start, cluster: Objects) -> None:
    create(cluster, "support-bot", samples.training(640))
    create(cluster, "order-mailbox", samples.failed())
    create_adapter(cluster, "support-bot")
    dashboard, namespace = start(), cluster.namespace
    status, listed = dashboard.get(f"/api/jobs?namespace={namespace}")
    assert status == 200
    rows = {each["name"]: each for each in listed["rows"]}
    assert (rows["support-bot"]["phase"], rows["support-bot"]["step"]) == ("Running", 640)
    assert rows["order-mailbox"]["reason"] == "BadData"

    shown = dashboard.get(f"/api/jobs/{namespace}/support-bot")[1]
    assert shown["curve"] == samples.curve(640)
    assert shown["resolved"]["rows"] == 11_856
    shown = dashboard.get(f"/api/jobs/{namespace}/order-mailbox")[1]
    assert shown["explanation"]["hint"].startswith("Write the field")
    shown = dashboard.get(f"/api/adapters/{namespace}/support-bot")[1]
    assert next(each["name"] for each in shown["pods"]).startswith("chat-")


def test_a_change_is_told_at_once_by_the_stream(start: Start, cluster: Objects) -> None:
    create(cluster, "support-bot", samples.training(640))
    dashboard = start()
    path = f"/api/jobs/{cluster.namespace}/support-bot"
    with socket.create_connection(("127.0.0.1", dashboard.port), timeout=20) as stream:
        stream.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        heard = stream.makefile("rb")
        read_event(heard)
        begun = time.monotonic()
        cluster.set_status("LoRAJob", "support-bot", samples.training(900))
        wait_for("the new step", lambda: read_event(heard) and dashboard.get(path)[1]["step"] == 900)
        assert time.monotonic() - begun < 10
        cluster.delete("LoRAJob", "support-bot")
        wait_for("the end of the job", lambda: read_event(heard) and dashboard.get(path)[0] == 404)


def read_event(heard: Any) -> bool:
    """Wait for the next word of a stream."""
    return any(line.startswith(b"data: ") for line in iter(heard.readline, b""))


def test_env_values_and_signed_urls_leave_the_server_nowhere(start: Start, cluster: Objects) -> None:
    env = [{"name": "KEY", "value": SECRET}]
    dataset = {"train": {"uri": f"https://host.example/data.jsonl?X-Signature={SECRET}"}}
    create(cluster, "support-bot", samples.training(), pod={"env": env}, dataset=dataset)
    dashboard = start()
    for path in (f"/api/jobs/{cluster.namespace}/support-bot", "/api/jobs"):
        with urllib.request.urlopen(f"http://127.0.0.1:{dashboard.port}{path}", timeout=20) as answer:
            text = answer.read().decode()
        assert "support-bot" in text
        assert SECRET not in text
    assert SECRET not in dashboard.log.read_text()


def test_with_named_namespaces_it_shows_and_needs_these_alone(start: Start, cluster: Objects, other: Objects) -> None:
    create(cluster, "mine", samples.training())
    create(other, "theirs", samples.training())
    dashboard = start(Dashboard(namespaces=(cluster.namespace,)))
    assert dashboard.names("/api/jobs") == [f"{cluster.namespace}/mine"]
    assert dashboard.get(f"/api/jobs/{other.namespace}/theirs")[0] == 404


def test_it_ends_in_order_with_streams_open(start: Start, cluster: Objects) -> None:
    del cluster
    dashboard = start()
    with socket.create_connection(("127.0.0.1", dashboard.port), timeout=20) as stream:
        stream.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_event(stream.makefile("rb"))
        dashboard.process.send_signal(signal.SIGTERM)
        assert dashboard.process.wait(timeout=15) == 0
    assert "Traceback" not in dashboard.log.read_text()


def test_many_jobs_are_pages_of_rows_in_little_memory(start: Start, cluster: Objects, server: ApiServer) -> None:
    made = [samples.job(f"job-{number:03}", cluster.namespace) for number in range(100)]
    documents = [{key: each[key] for key in ("apiVersion", "kind", "spec")} for each in made]
    for document, each in zip(documents, made, strict=True):
        document["metadata"] = {"name": each["metadata"]["name"]}
    done = server.run_kubectl("create", "-n", cluster.namespace, "-f", "-", stdin=yaml.safe_dump_all(documents))
    assert done.returncode == 0, done.stderr
    dashboard = start()
    status, listed = dashboard.get(f"/api/jobs?namespace={cluster.namespace}&page=2")
    assert (status, listed["total"], listed["pages"], len(listed["rows"])) == (200, 100, 2, 50)
    assert resident_mebibytes(dashboard.process.pid) < 160


def resident_mebibytes(pid: int) -> float:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(each.split()[1] for each in lines if each.startswith("VmRSS"))) / 1024


@pytest.fixture
def passthrough(start: Start) -> Any:
    """Return a dashboard that asks with the tokens of its viewers, and whose own account has no rights."""
    return start(Dashboard(auth="passthrough"))


def test_a_viewer_sees_the_namespace_that_the_viewer_may_read_and_no_other(
    passthrough: Any, viewer: Viewer, cluster: Objects, other: Objects
) -> None:
    create(cluster, "mine", samples.training())
    create(other, "theirs", samples.training())
    create_adapter(cluster, "bot")
    token = viewer(cluster.namespace)
    assert passthrough.names(f"/api/jobs?namespace={cluster.namespace}", token) == [f"{cluster.namespace}/mine"]
    assert passthrough.names(f"/api/adapters?namespace={cluster.namespace}", token) == [f"{cluster.namespace}/bot"]
    assert passthrough.get(f"/api/jobs/{cluster.namespace}/mine", token)[1]["step"] == 640

    for path in ("/api/jobs", f"/api/jobs?namespace={other.namespace}", f"/api/jobs/{other.namespace}/theirs"):
        status, answer = passthrough.get(path, token)
        assert status == 403, path
        assert "cannot" in answer["error"]


def test_what_one_viewer_was_shown_is_not_kept_for_the_next(
    passthrough: Any, viewer: Viewer, cluster: Objects, other: Objects
) -> None:
    create(cluster, "mine", samples.training())
    path = f"/api/jobs/{cluster.namespace}/mine"
    for token, expected in ((viewer(cluster.namespace), 200), (viewer(other.namespace), 403), ("", 401), ("x.y", 401)):
        assert passthrough.get(path, token)[0] == expected
    stream, _ = passthrough.get("/api/events", viewer(cluster.namespace))
    assert stream == 404, "a stream would tell of changes in every namespace"


def test_a_right_that_is_taken_away_is_gone_at_once(
    passthrough: Any, viewer: Viewer, cluster: Objects, server: ApiServer
) -> None:
    create(cluster, "mine", samples.training())
    token, path = viewer(cluster.namespace), f"/api/jobs/{cluster.namespace}/mine"
    assert passthrough.get(path, token)[0] == 200
    server.run_kubectl("delete", "rolebinding", "--all", "-n", cluster.namespace)
    wait_for("a refusal", lambda: passthrough.get(path, token)[0] == 403)


def test_tokens_are_not_logged(passthrough: Any, viewer: Viewer, cluster: Objects) -> None:
    token = viewer(cluster.namespace)
    passthrough.get(f"/api/jobs?namespace={cluster.namespace}", token)
    passthrough.get("/api/jobs", token)
    log = passthrough.log.read_text()
    assert token not in log
    assert token.split(".")[2] not in log


def test_of_named_namespaces_a_viewer_sees_those_that_the_viewer_may_read(
    start: Start, viewer: Viewer, cluster: Objects, other: Objects
) -> None:
    create(cluster, "mine", samples.training())
    create(other, "theirs", samples.training())
    dashboard = start(Dashboard(auth="passthrough", namespaces=(cluster.namespace, other.namespace)))
    assert dashboard.names("/api/jobs", viewer(cluster.namespace)) == [f"{cluster.namespace}/mine"]
    assert dashboard.get("/api/jobs?namespace=default", viewer("default"))[0] == 403
    assert dashboard.get("/api/jobs", viewer("default"))[0] == 403
