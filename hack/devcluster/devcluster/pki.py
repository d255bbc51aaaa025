"""One authority, a certificate for each program, and their kubeconfig files: once for each state folder."""

import base64
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from devcluster.settings import API_PORT, API_SERVICE_IP, BRIDGE_IP, LOOPBACK, NODE_NAME, Paths
from devcluster.shell import run, step

DAYS = "3650"
EC_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True)
class Leaf:
    """A certificate to sign: RBAC reads user and group from its subject."""

    name: str
    subject: str
    alternative_names: tuple[str, ...] = ()


LEAVES = (
    Leaf("admin", "/O=system:masters/CN=lora-devcluster-admin"),
    Leaf("kube-controller-manager", "/CN=system:kube-controller-manager"),
    Leaf("kube-scheduler", "/CN=system:kube-scheduler"),
    Leaf("kube-proxy", "/CN=system:kube-proxy"),
    Leaf("coredns", "/CN=lora-devcluster-coredns"),
    Leaf("apiserver-kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
    Leaf("kubelet", f"/O=system:nodes/CN=system:node:{NODE_NAME}", (f"DNS:{NODE_NAME}", f"IP:{BRIDGE_IP}")),
    Leaf(
        "apiserver",
        "/CN=kube-apiserver",
        (
            "DNS:kubernetes",
            "DNS:kubernetes.default",
            "DNS:kubernetes.default.svc",
            "DNS:kubernetes.default.svc.cluster.local",
            "DNS:localhost",
            f"IP:{API_SERVICE_IP}",
            f"IP:{LOOPBACK}",
            f"IP:{BRIDGE_IP}",
        ),
    ),
)
KUBECONFIGS = ("kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns", "kubelet")


def ensure_pki(paths: Paths) -> None:
    """All certificates or, after a crash in the middle, none: the folder gets its name last."""
    if not paths.pki.exists():
        with step("made certificates"):
            unfinished = paths.pki.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True, mode=0o700)
            _make_all(unfinished)
            unfinished.rename(paths.pki)
    if not paths.kubeconfig.exists():
        write_private(paths.kubeconfig, json.dumps(_kubeconfig(paths.pki, "admin"), indent=1))


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, and readable by the owner alone."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.touch(mode=0o600)
    unfinished.chmod(0o600)
    unfinished.write_text(text)
    unfinished.replace(path)


def _make_all(folder: Path) -> None:
    _make_authority(folder)
    for leaf in LEAVES:
        _sign(folder, leaf)
    run(["openssl", "genrsa", "-out", str(folder / "service-account.key"), "2048"])
    for name in KUBECONFIGS:
        write_private(folder / f"{name}.kubeconfig", json.dumps(_kubeconfig(folder, name), indent=1))


def _make_authority(folder: Path) -> None:
    files = ["-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt")]
    usage = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    config = ["-config", _empty_config(folder)]
    run(["openssl", "req", "-x509", *EC_KEY, *config, *files, *usage, "-days", DAYS, "-subj", "/CN=lora-devcluster-ca"])


def _sign(folder: Path, leaf: Leaf) -> None:
    key, request, certificate = (str(folder / f"{leaf.name}.{kind}") for kind in ("key", "csr", "crt"))
    extensions = folder / f"{leaf.name}.ext"
    usage = "keyUsage=digitalSignature\nextendedKeyUsage=clientAuth,serverAuth\n"
    names = f"subjectAltName={','.join(leaf.alternative_names)}\n" if leaf.alternative_names else ""
    extensions.write_text(usage + names)
    config = ["-config", _empty_config(folder)]
    run(["openssl", "req", "-new", *EC_KEY, *config, "-keyout", key, "-out", request, "-subj", leaf.subject])
    authority = ["-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial"]
    output = ["-out", certificate, "-days", DAYS, "-extfile", str(extensions)]
    run(["openssl", "x509", "-req", "-in", request, *authority, *output])


def _empty_config(folder: Path) -> str:
    """The machine's openssl.cnf would add extensions of its own."""
    config = folder / "openssl.cnf"
    config.write_text("[req]\ndistinguished_name=name\n[name]\n")
    return str(config)


def _kubeconfig(folder: Path, user: str) -> dict[str, object]:
    def inline(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    cluster = {"server": f"https://{LOOPBACK}:{API_PORT}", "certificate-authority-data": inline("ca.crt")}
    credentials = {
        "client-certificate-data": inline(f"{user}.crt"),
        "client-key-data": inline(f"{user}.key"),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lora-devcluster", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "lora-devcluster", "context": {"cluster": "lora-devcluster", "user": user}}],
        "current-context": "lora-devcluster",
    }
