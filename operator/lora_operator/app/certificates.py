"""The certificate with which a replica proves to the API server that it is the webhook.

Either made here: an authority and one certificate of it, in memory, with a key that no other process ever sees. Or read
from a folder that cert-manager fills. No Secret is read or written, and no key is logged.
"""

import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY: Final = timedelta(days=7)
"""A new process makes a new one anyhow; this is for replicas that run for months."""
ROTATE_BEFORE: Final = timedelta(days=3)
"""Time before the end at which it is replaced: long enough for a weekend without an API server."""
_CLOCK_SKEW: Final = timedelta(hours=1)
"""Clocks of API servers that are behind ours must take a new certificate, too."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key."""

    chain: bytes
    """PEM."""
    key: bytes = field(repr=False)
    """PEM. Never leaves the process."""
    authority: bytes = b""
    """PEM of the authority that the API server has to trust; empty if that is somebody else's business."""
    ends: datetime | None = None

    def is_old(self, now: datetime) -> bool:
        """Return whether it is time for another one."""
        return self.ends is not None and now >= self.ends - ROTATE_BEFORE

    def has_ended(self, now: datetime) -> bool:
        """Return whether nobody takes it any more."""
        return self.ends is not None and now >= self.ends


class CertificateError(Exception):
    """A certificate cannot be used. The message names the file and what is wrong."""


def make_certificate(names: Sequence[str], identity: str, now: datetime) -> Certificate:
    """Return a new certificate for DNS names and addresses, of a new authority whose key is forgotten at once."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key, identity, now)
    certificate = _serving(key, names, authority, authority_key, now)
    return Certificate(
        chain=certificate.public_bytes(Encoding.PEM),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        authority=authority.public_bytes(Encoding.PEM),
        ends=now + VALIDITY,
    )


def read_certificate(folder: Path) -> Certificate:
    """Return the certificate of a folder with tls.crt and tls.key. Raises `CertificateError`."""
    try:
        found = Certificate((folder / "tls.crt").read_bytes(), (folder / "tls.key").read_bytes())
        server_context(found)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(
            f"{folder}: no certificate to use ({error}): it needs tls.crt and the tls.key of the same pair"
        ) from error
    return found


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """Return what serves TLS with a certificate. Raises `ssl.SSLError` if it and the key are no pair."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # ssl reads files only. The folder is ours alone, and is gone before anybody is served.
    with tempfile.TemporaryDirectory(prefix="lora-webhook-") as folder:
        chain, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
        chain.write_bytes(certificate.chain)
        key.touch(mode=0o600)
        key.write_bytes(certificate.key)
        context.load_cert_chain(chain, key)
    return context


class Rotating:
    """A context for a server whose certificate can be replaced. Connections that are open are left as they are."""

    def __init__(self, certificate: Certificate) -> None:
        """Begin with one certificate."""
        self._current = server_context(certificate)
        self.context = server_context(certificate)
        self.context.sni_callback = self._choose

    def replace(self, certificate: Certificate) -> None:
        """Serve new connections with another certificate."""
        self._current = server_context(certificate)

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Is called at the beginning of each handshake, also if the client names no server."""
        connection.context = self._current


def _authority(key: ec.EllipticCurvePrivateKey, identity: str, now: datetime) -> x509.Certificate:
    name = _name(f"lora-operator webhook of {identity}")
    public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        _builder(name, name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(public, critical=False)
        .sign(key, SHA256())
    )


def _serving(
    key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        _builder(_name(names[0]), authority.subject, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(each) for each in names]), critical=False)
        .add_extension(signer, critical=False)
        .sign(authority_key, SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - _CLOCK_SKEW)
        .not_valid_after(now.astimezone(UTC) + VALIDITY)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])  # as long as X.509 allows


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
