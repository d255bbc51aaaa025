"""The image registry of this machine. Its program keeps layers on disk but manifests in memory: we keep those."""

import hashlib
import json
import re
import urllib.request
from pathlib import Path

from devcluster.health import http_ok
from devcluster.processes import Component
from devcluster.settings import LOOPBACK, REGISTRY, REGISTRY_PORT, Paths

MANIFEST_TYPES = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def registry(paths: Paths) -> Component:
    folder = _blobs(paths)
    folder.mkdir(parents=True, exist_ok=True)
    argv = [paths.binary("crane"), "registry", "serve", f"--address={LOOPBACK}:{REGISTRY_PORT}", f"--disk={folder}"]
    return Component("registry", argv, ((LOOPBACK, REGISTRY_PORT),), lambda: http_ok(f"http://{REGISTRY}/v2/"))


def keep_manifest(paths: Paths, reference: str) -> None:
    """Remembers what a pushed `localhost:5000/name@sha256:…` says, for the registry's next start."""
    request = urllib.request.Request(manifest_url(reference), headers={"Accept": MANIFEST_TYPES})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own address
        content = answer.read()
    file = _manifests(paths) / reference.rpartition(":")[2]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def restore_manifests(paths: Paths, references: list[str]) -> None:
    """Gives a freshly started registry the manifests of the images whose layers it still has."""
    for reference in references:
        file = _manifests(paths) / reference.rpartition(":")[2]
        if file.exists():
            _put_manifest(reference, file.read_bytes())


def remove_unused_blobs(paths: Paths, references: list[str]) -> None:
    """Layers and manifests that none of these images needs."""
    wanted = {reference.rpartition(":")[2] for reference in references}
    for manifest in _manifests(paths).glob("*"):
        if manifest.name not in wanted:
            manifest.unlink()
    used = set().union(*(blobs_of(file.read_bytes()) for file in _manifests(paths).glob("*")))
    for blob in (_blobs(paths) / "sha256").glob("*"):
        if blob.name not in used:
            blob.unlink()


def blobs_of(manifest: bytes) -> set[str]:
    """Digests (hexadecimal) of the configuration and the layers."""
    content = json.loads(manifest)
    entries = [content["config"], *content["layers"]]
    return {entry["digest"].removeprefix("sha256:") for entry in entries}


def manifest_url(reference: str) -> str:
    found = re.fullmatch(rf"{re.escape(REGISTRY)}/([a-z0-9-]+)@(sha256:[0-9a-f]{{64}})", reference)
    if not found:
        raise ValueError(f"not an image of this registry: {reference}")
    return f"http://{REGISTRY}/v2/{found[1]}/manifests/{found[2]}"


def _put_manifest(reference: str, content: bytes) -> None:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    kind = json.loads(content).get("mediaType", "application/vnd.oci.image.manifest.v1+json")
    url = manifest_url(f"{reference.partition('@')[0]}@{digest}")
    request = urllib.request.Request(url, data=content, method="PUT", headers={"Content-Type": kind})  # noqa: S310
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - our own address


def _blobs(paths: Paths) -> Path:
    return paths.state / "registry" / "blobs"


def _manifests(paths: Paths) -> Path:
    return paths.state / "registry" / "manifests"
