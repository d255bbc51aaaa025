"""The image of the process that holds a pod's namespaces: one static binary, so that nothing need be pulled for it."""

import hashlib
import io
import json
import os
import tarfile
import tempfile
from pathlib import Path

from devcluster.node import PAUSE_IMAGE
from devcluster.settings import MODULE_DIR, Paths
from devcluster.shell import run, step


def import_pause_image(paths: Paths) -> None:
    """Into containerd, unless it is there."""
    ctr = ["ctr", f"--address={paths.containerd_socket}", "--namespace=k8s.io", "images"]
    if PAUSE_IMAGE in run([*ctr, "list", "--quiet"]).split():
        return
    archive = _ensure_archive(paths)
    with step("imported the pause image"):
        run([*ctr, "import", str(archive)])


def _ensure_archive(paths: Paths) -> Path:
    archive = paths.binaries / "pause.tar"
    if not archive.exists():
        with tempfile.TemporaryDirectory() as folder:
            binary = Path(folder) / "pause"
            run(["gcc", "-Os", "-static", "-o", str(binary), str(MODULE_DIR / "pause/pause.c")])
            unfinished = archive.with_name(f".pause.{os.getpid()}")
            unfinished.write_bytes(image_archive(binary.read_bytes()))
            unfinished.rename(archive)
    return archive


def image_archive(binary: bytes) -> bytes:
    """A docker-archive of one layer with one file: the oldest format, which every engine reads."""
    layer = _tar({"pause": binary})
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]
    return _tar(
        {
            "config.json": json.dumps(config).encode(),
            "layer.tar": layer,
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
