"""The operator with its pod webhook, and the entry at the API server by which it is called: of one namespace only."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from generate.webhook import WEBHOOK_ROLE, webhook_configuration
from lora_operator.app.webhook import PATH
from lora_operator.cluster.permissions import WEBHOOK_NAME, WEBHOOK_RULES
from support.apiserver import ApiServer, free_port
from support.objects import Document, Objects
from support.operator_process import IMAGE, Operator
from support.wait import wait_for

AGENT_IMAGE = "agent.example/lora-agent:test"
_OPERATOR_USER = "lora-operator"


class ServingOperator(Operator):
    """The operator as in a cluster: it serves the webhook, and asks pods at their own addresses."""

    def __init__(self, objects: Objects, folder: Path, *, port: int = 0, namespaces: tuple[str, ...] = ()) -> None:
        """Start it for the namespace of some objects, or for several; see `Operator` for the rest."""
        self.webhook_port = free_port()
        self.namespaces = namespaces or (objects.namespace,)
        super().__init__(objects.server, objects.namespace, folder, port=port)

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [
            *(sys.executable, "-m", "lora_operator.app.main", "--trainer-image", IMAGE, "--no-leader-election"),
            *("--listen", "127.0.0.1", "--health-port", str(self.health_port)),
            *("--metrics-port", str(self.metrics_port), "--progress", "direct"),
            *("--webhook", "on", "--webhook-port", str(self.webhook_port), "--agent-image", AGENT_IMAGE),
            *(part for each in self.namespaces for part in ("--namespace", each)),
        ]
        variables = {"KUBECONFIG": str(self._kubeconfig()), "LORA_LEASE_NAMESPACE": self._namespace}
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=os.environ | variables, stdout=log, stderr=log)


@contextmanager
def installed(objects: Objects, operator: ServingOperator) -> Iterator[None]:
    """Have the API server call an operator's webhook for the pods of its namespace, once it is trusted."""
    server = objects.server
    _apply(server, [_entry(operator), *_rights()])
    try:
        wait_for("a ready operator", operator.is_ready, seconds=60, state=lambda: operator.log.read_text()[-3000:])
        wait_for("a trusted webhook", lambda: _is_called(objects), seconds=60)
        yield
    finally:
        server.run_kubectl("delete", "mutatingwebhookconfiguration", WEBHOOK_NAME, "--ignore-not-found")


def _is_called(objects: Objects) -> bool:
    """Return whether the webhook answers; the API server takes some time to hear of an entry."""
    container = {"name": "engine", "image": "no-engine"}
    labels = {"lora-operator.io/inject": "true"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "trial", "labels": labels}}
    document = yaml.safe_dump(pod | {"spec": {"containers": [container]}})
    where = ("create", "--dry-run=server", "-n", objects.namespace, "-f", "-")
    return (
        "annotation lora-operator.io/adapters is missing" in objects.server.run_kubectl(*where, stdin=document).stderr
    )


def _entry(operator: ServingOperator) -> Document:
    """Return the entry as it is installed, but called by an address: there is no Service here."""
    entry: Document = webhook_configuration({"name": WEBHOOK_NAME}, "default", operator.namespaces, "Fail")
    (webhook,) = entry["webhooks"]
    webhook["clientConfig"] = {"url": f"https://127.0.0.1:{operator.webhook_port}{PATH}"}
    return entry


def _rights() -> list[Document]:
    """Return the rights that go with the webhook, for the user that the operator is here."""
    group, about = "rbac.authorization.k8s.io", {"metadata": {"name": WEBHOOK_ROLE}}
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "rules": WEBHOOK_RULES, **about}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": WEBHOOK_ROLE},
        "subjects": [{"apiGroup": group, "kind": "User", "name": _OPERATOR_USER}],
        **about,
    }
    return [role, binding]


def _apply(server: ApiServer, documents: list[Document]) -> None:
    done = server.run_kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(documents)
    )
    assert done.returncode == 0, done.stderr
