"""The kustomizations, rendered by kubectl: the base is install.yaml, and the overlays differ from it as they say."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from generate.install import AGENT_IMAGE, OPERATOR_IMAGE, TRAINER_IMAGE, Installation, install_objects
from generate.kustomize import EXAMPLE_NAMESPACE, key_of
from lora_api.crd import all_crds
from support.apiserver import ApiServer

MANIFESTS = Path(__file__).resolve().parents[3] / "manifests"
INSTALL = MANIFESTS / "install.yaml"
REGISTRY = "registry.example/lora/"

Object = dict[str, Any]


def by_key(objects: list[Object]) -> dict[Any, Object]:
    """Return objects by what names them, without the order of environment variables, which means nothing."""
    for each in objects:
        if each["kind"] == "Deployment":
            for container in each["spec"]["template"]["spec"]["containers"]:
                container["env"].sort(key=lambda variable: variable["name"])
    found = {key_of(each): each for each in objects}
    assert len(found) == len(objects)
    return found


def rendered(server: ApiServer, folder: str) -> dict[Any, Object]:
    done = server.run_kubectl("kustomize", str(MANIFESTS / folder))
    assert done.returncode == 0, done.stderr
    return by_key(list(yaml.safe_load_all(done.stdout)))


def test_the_base_is_the_installation(server: ApiServer) -> None:
    assert rendered(server, ".") == by_key(list(yaml.safe_load_all(INSTALL.read_text())))


def test_the_crds_can_be_applied_alone(server: ApiServer) -> None:
    assert rendered(server, "crd") == by_key(list(all_crds().values()))


def test_the_namespaced_overlay_is_the_namespaced_installation(server: ApiServer) -> None:
    wanted = install_objects(Installation(namespaces=(EXAMPLE_NAMESPACE,)))
    assert rendered(server, "overlays/namespaced") == by_key(wanted)


def test_the_overlay_of_a_registry_changes_the_three_images_and_nothing_else(server: ApiServer) -> None:
    wanted = Installation(REGISTRY + OPERATOR_IMAGE, REGISTRY + TRAINER_IMAGE, agent_image=REGISTRY + AGENT_IMAGE)
    assert rendered(server, "overlays/registry") == by_key(install_objects(wanted))


@pytest.mark.parametrize("arguments", [["-f", str(INSTALL)], ["-k", str(MANIFESTS / "overlays" / "registry")]])
def test_the_api_server_takes_it(server: ApiServer, arguments: list[str]) -> None:
    server.run_kubectl("create", "namespace", "lora-system")
    done = server.run_kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", *arguments)
    assert done.returncode == 0, done.stderr
    assert "deployment.apps/lora-operator serverside-applied" in done.stdout


def test_the_component_without_a_webhook_patches_labelled_deployments_alone(server: ApiServer, tmp_path: Path) -> None:
    engine = {"name": "engine", "image": "vllm/vllm-openai:v0.33.0"}
    for name, labels in (("asks", {"lora-operator.io/inject": "true"}), ("other", {})):
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [engine]}}
        document = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": labels},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
    (tmp_path / "component").mkdir()
    for each in (MANIFESTS / "serving").iterdir():
        (tmp_path / "component" / each.name).write_text(each.read_text())
    kustomization = {"resources": ["asks.yaml", "other.yaml"], "components": ["component"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    done = server.run_kubectl("kustomize", str(tmp_path))
    assert done.returncode == 0, done.stderr
    agents = {
        each["metadata"]["name"]: [
            agent["name"] for agent in each["spec"]["template"]["spec"].get("initContainers", [])
        ]
        for each in yaml.safe_load_all(done.stdout)
    }
    assert agents == {"asks": ["lora-agent"], "other": []}
