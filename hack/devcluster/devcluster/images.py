"""Builds the project's images without a container engine's daemon, and puts them where the node finds them."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from devcluster import registry
from devcluster.addons import kubectl
from devcluster.binaries import need_disk
from devcluster.host import IMAGE_PACKAGES, ensure_packages
from devcluster.pki import write_private
from devcluster.processes import read_pid_file
from devcluster.settings import REGISTRY, REPOSITORY, Paths
from devcluster.shell import DevclusterError, run, say, step

IMAGES = ("operator", "agent", "trainer")
"""Built when none is named."""
ENGINE = "engine"
"""A real inference engine, for the tests that need one: built only when it is named."""
ALL_IMAGES = (*IMAGES, ENGINE)
DOCKERFILES = {ENGINE: "hack/engine/Dockerfile"}
DEBIAN_RELEASE = "bookworm"
BASE_PACKAGES = "ca-certificates,python3,python3-venv"
BASE = "localhost/lora-devcluster-base:bookworm-1"  # raise the number when the base is to be made anew
# Build store, registry and snapshot hold the trainer's 5 GiB once each, and a pull once more while it lasts.
# The engine is the trainer's torch, which is there already, and 2 GiB of its own.
DISK_GIB = {"operator": 3, "agent": 3, "trainer": 24, ENGINE: 12}
# Authorities that the host trusts, for package indexes behind a company's proxy. Mounted, so not in the image.
TRUST_FOLDERS = ("/etc/ssl/certs", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates")
PULL_SECONDS = 600


def recorded_images(paths: Paths) -> dict[str, str]:
    """References with digest of the images built last, by name."""
    try:
        images: dict[str, str] = json.loads(paths.images_file.read_text())
    except (OSError, ValueError):
        return {}
    return images


def build_images(paths: Paths, names: tuple[str, ...]) -> None:
    """Builds, pushes, records and pulls each; quick if nothing changed."""
    if not read_pid_file(paths, "registry"):
        raise DevclusterError("the registry is not running: `up` first")
    ensure_packages(IMAGE_PACKAGES)
    _ensure_base(paths)
    for name in (name for name in ALL_IMAGES if name in names):
        need_disk(paths.state, _disk_needed(paths, name), f"for the {name} image")
        reference = _build_and_push(paths, name)
        known = recorded_images(paths)
        registry.keep_manifest(paths, reference)
        write_private(paths.images_file, json.dumps({**known, name: reference}, indent=1))
        if known.get(name) != reference:
            with step(f"pulled {reference}"):
                _pull_to_node(paths, name, reference)
        say(reference)


def remove_unused(paths: Paths) -> None:
    """Frees what earlier builds left: build layers, blobs of the registry, images of the node."""
    images = recorded_images(paths)
    run([*_buildah(paths), "rmi", "--prune", "--force"])
    registry.remove_unused_blobs(paths, list(images.values()))
    ctr = ["ctr", f"--address={paths.containerd_socket}", "--namespace=k8s.io", "images"]
    for name in run([*ctr, "list", "--quiet"]).split():
        if name.startswith(f"{REGISTRY}/") and name not in images.values():
            run([*ctr, "remove", name])


def _ensure_base(paths: Paths) -> None:
    """Debian's own Python, since no image registry need be reachable."""
    buildah = _buildah(paths)
    if subprocess.run([*buildah, "inspect", "--type=image", BASE], capture_output=True, check=False).returncode == 0:
        return
    # In the state folder: /tmp may be small, or mounted without devices.
    with tempfile.TemporaryDirectory(dir=paths.state) as folder, step("made the base image"):
        root = Path(folder) / "root"
        packages = ["--variant=minbase", f"--include={BASE_PACKAGES}"]
        run(["debootstrap", *packages, DEBIAN_RELEASE, str(root), _debian_mirror()])
        for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(root / waste, ignore_errors=True)
        (Path(folder) / "Dockerfile").write_text("FROM scratch\nCOPY root /\n")
        run([*buildah, "build", *_isolation(), f"--tag={BASE}", folder])


def _debian_mirror() -> str:
    """The archive that this machine's own apt uses for the release."""
    targets = run(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"])
    mirrors = (line.split()[1] for line in targets.splitlines() if line.split()[:1] == [DEBIAN_RELEASE])
    mirror = next(mirrors, None)
    if mirror is None:
        raise DevclusterError(f"apt knows no archive of Debian {DEBIAN_RELEASE}: add one to /etc/apt/sources.list.d")
    return mirror


def _build_and_push(paths: Paths, name: str) -> str:
    tag = f"localhost/lora-{name}:dev"
    trust = [f"--volume={folder}:{folder}:ro" for folder in TRUST_FOLDERS if Path(folder).is_dir()]
    options = [*_isolation(), "--layers", f"--build-arg=BASE_IMAGE={BASE}", f"--tag={tag}", *trust]
    with step(f"built the {name} image"):
        _logged(paths, name, [*_buildah(paths), "build", *options, f"--file={_dockerfile(name)}", str(REPOSITORY)])
    digest_file = paths.state / f"{name}.digest"
    # The quickest packing that the node reads: gzip, the default, takes half as long again to push.
    packing = ["--compression-format=zstd", "--compression-level=1"]
    options = [*packing, "--tls-verify=false", f"--digestfile={digest_file}"]
    with step(f"pushed the {name} image"):
        _logged(paths, name, [*_buildah(paths), "push", *options, tag, f"docker://{REGISTRY}/lora-{name}:dev"])
    return f"{REGISTRY}/lora-{name}@{digest_file.read_text().strip()}"


def _dockerfile(name: str) -> str:
    return DOCKERFILES.get(name, f"{name}/Dockerfile")


def _logged(paths: Paths, name: str, argv: list[str]) -> None:
    """Runs a long program with its output in a log, whose end is shown if it fails."""
    log = paths.logs / f"image-{name}.log"
    with log.open("w") as output:
        done = subprocess.run(argv, stdout=output, stderr=subprocess.STDOUT, cwd=REPOSITORY, check=False)
    if done.returncode != 0:
        for line in log.read_text(errors="replace").splitlines()[-20:]:
            say(line)
        raise DevclusterError(f"the {name} image failed: {' '.join(argv[:1] + argv[5:6])}, all of it in {log}")


def _pull_to_node(paths: Paths, name: str, reference: str) -> None:
    """By a pod, the way every other image comes: kubelet knows it, and unpacked layers are discarded."""
    pod = f"pull-{name}"
    python = {"name": "pull", "image": reference, "command": ["/opt/venv/bin/python", "-c", "pass"]}
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [python]}
    metadata = {"name": pod, "namespace": "kube-system"}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    delete = ("delete", "pod", pod, "--namespace=kube-system", "--ignore-not-found", "--now")
    kubectl(paths, *delete)
    kubectl(paths, "apply", "-f", "-", stdin=json.dumps(manifest))
    wait = ("wait", f"pod/{pod}", "--namespace=kube-system", "--for=jsonpath={.status.phase}=Succeeded")
    kubectl(paths, *wait, f"--timeout={PULL_SECONDS}s", timeout=PULL_SECONDS + 10)
    kubectl(paths, *delete)


def _disk_needed(paths: Paths, name: str) -> int:
    """Once an image is there, a change of the code adds little."""
    return 2 if name in recorded_images(paths) else DISK_GIB[name]


def _isolation() -> list[str]:
    return ["--isolation=chroot", "--format=oci"]  # chroot: works inside containers and sandboxes too


def _buildah(paths: Paths) -> list[str]:
    store = paths.state / "build"
    return ["buildah", f"--root={store / 'store'}", f"--runroot={store / 'run'}", "--storage-driver=overlay"]
