"""Certificates for the webhooks of Trainer and JobSet, which the API server asks at an address of this machine.

In a cluster each makes its own for the name of its Service, and the kubelet mounts it. Here both get one that holds for
the address too, in their Secrets and in the one folder that both have built in.
"""

import base64
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MOUNT = Path("/tmp/k8s-webhook-server/serving-certs")  # noqa: S108 - fixed in both programs
_DAYS = "3650"


@dataclass(frozen=True)
class Certificates:
    """An authority, and a certificate for every name."""

    files: dict[str, bytes]
    """Of the Secrets: ca.crt, ca.key, tls.crt, tls.key."""

    @property
    def authority(self) -> str:
        """What a webhook configuration bears."""
        return base64.b64encode(self.files["ca.crt"]).decode()

    def data(self) -> dict[str, str]:
        """Return what a Secret bears."""
        return {name: base64.b64encode(content).decode() for name, content in self.files.items()}

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Lay them where both programs look, for a time. Fails if somebody else's are there."""
        _MOUNT.mkdir(parents=True)
        try:
            for name, content in self.files.items():
                (_MOUNT / name).write_bytes(content)
                (_MOUNT / name).chmod(0o600)
            yield
        finally:
            shutil.rmtree(_MOUNT.parent)


def make_certificates(folder: Path, authorities: tuple[str, ...], services: tuple[str, ...]) -> Certificates:
    """Make an authority that both programs take for theirs, and a certificate for their Services and this machine."""
    names = _extension([*(f"DNS:{name}" for name in authorities)])
    _openssl(folder, "req", "-x509", *_key("ca"), "-out", "ca.crt", "-subj", "/CN=bench", "-days", _DAYS, *names)
    _openssl(folder, "rsa", "-traditional", "-in", "ca.key", "-out", "ca.key")  # PKCS #1, which is all they read
    names = _extension(["IP:127.0.0.1", *(f"DNS:{name}" for name in services)])
    signer = ("-CA", "ca.crt", "-CAkey", "ca.key")
    ends = ("-addext", "basicConstraints=critical,CA:FALSE")
    arguments = (*_key("tls"), "-out", "tls.crt", "-subj", "/CN=bench-webhook", "-days", _DAYS, *names, *ends)
    _openssl(folder, "req", "-x509", *signer, *arguments)
    return Certificates({name: (folder / name).read_bytes() for name in ("ca.crt", "ca.key", "tls.crt", "tls.key")})


def _key(name: str) -> tuple[str, ...]:
    return "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key"


def _extension(names: list[str]) -> tuple[str, ...]:
    return "-addext", f"subjectAltName={','.join(names)}"


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
