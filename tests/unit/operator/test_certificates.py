"""The webhook's certificates: what is made, when it is replaced, and whom the API server is told to trust."""

import asyncio
import base64
import logging
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from lora_operator.app.certificates import (
    Certificate,
    CertificateError,
    Rotating,
    make_certificate,
    read_certificate,
    server_context,
)
from lora_operator.app.webhook import GivenCertificate, OwnCertificate, server_names
from lora_operator.cluster.client import ApiError
from lora_operator.cluster.webhook_config import Published, WebhookConfigClient, trust_operations
from lora_operator.domain.bundle import MAX_AUTHORITIES, merged_bundle

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NAMES = server_names("lora-operator-webhook", "lora-system", "0.0.0.0")


def made(now: datetime = NOW, identity: str = "replica") -> Certificate:
    return make_certificate(NAMES, identity, now)


def test_the_certificate_names_the_service_and_can_do_nothing_else() -> None:
    found = x509.load_pem_x509_certificate(made().chain)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [
        "lora-operator-webhook.lora-system.svc",
        "lora-operator-webhook.lora-system",
        "lora-operator-webhook.lora-system.svc.cluster.local",
    ]
    assert list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    key = found.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_the_authority_signs_this_certificate_and_no_authorities() -> None:
    certificate = made()
    authority = x509.load_pem_x509_certificate(certificate.authority)
    limits = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (limits.ca, limits.path_length) == (True, 0)
    x509.load_pem_x509_certificate(certificate.chain).verify_directly_issued_by(authority)
    with pytest.raises(Exception, match=r".*"):
        x509.load_pem_x509_certificate(made().chain).verify_directly_issued_by(authority)


def test_it_lives_for_days_and_clocks_that_are_behind_take_it() -> None:
    found = x509.load_pem_x509_certificate(made().chain)
    assert found.not_valid_before_utc == NOW - timedelta(hours=1)
    assert found.not_valid_after_utc == NOW + 7 * DAY
    assert [made().is_old(NOW + days * DAY) for days in (0, 3, 4, 8)] == [False, False, True, True]
    assert [made().has_ended(NOW + days * DAY) for days in (6, 7)] == [False, True]


def test_the_key_is_shown_by_nothing_and_left_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    modes: list[int] = []
    load = ssl.SSLContext.load_cert_chain

    def watched(context: ssl.SSLContext, chain: Path, key: Path) -> None:
        modes.extend(each.stat().st_mode & 0o777 for each in (key.parent, key))
        load(context, chain, key)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watched)
    certificate = made()
    server_context(certificate)
    assert modes == [0o700, 0o600]
    assert list(tmp_path.iterdir()) == []
    assert "PRIVATE" not in repr(certificate)
    assert "PRIVATE" in certificate.key.decode()


def blocks(bundle: bytes) -> list[bytes]:
    end = b"-----END CERTIFICATE-----\n"
    return [each + end for each in bundle.split(end) if each.strip()]


def test_each_replica_adds_itself_and_keeps_the_others() -> None:
    first, second = made(identity="a").authority, made(identity="b").authority
    bundle = merged_bundle(merged_bundle(b"", first, NOW), second, NOW)
    assert sorted(blocks(bundle)) == sorted([first, second])
    assert merged_bundle(bundle, first, NOW) is bundle, "nothing to do"
    assert merged_bundle(bundle, second, NOW) is bundle


def test_what_has_run_out_and_what_is_no_certificate_is_dropped() -> None:
    ours, old = made().authority, made(NOW - 8 * DAY).authority
    broken = b"-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n"
    assert merged_bundle(old + broken + b"\xffnonsense" + ours, ours, NOW) == ours
    assert merged_bundle(b"\x00" * 100, ours, NOW) == ours


def test_the_newest_are_kept_and_we_are_always_among_them() -> None:
    others = [made(NOW - timedelta(hours=hours)).authority for hours in range(MAX_AUTHORITIES + 5)]
    ours = made(NOW - DAY * 3).authority
    kept = blocks(merged_bundle(b"".join(others), ours, NOW))
    assert len(kept) == MAX_AUTHORITIES
    assert set(kept) == {ours, *others[: MAX_AUTHORITIES - 1]}


def configuration(*bundles: bytes | None) -> dict[str, Any]:
    def webhook(bundle: bytes | None) -> dict[str, Any]:
        return {"clientConfig": {} if bundle is None else {"caBundle": base64.b64encode(bundle).decode()}}

    return {"metadata": {"resourceVersion": "7"}, "webhooks": [webhook(each) for each in bundles]}


def test_a_change_holds_only_for_the_version_that_it_was_decided_on() -> None:
    ours = made().authority
    value = base64.b64encode(ours).decode()
    assert trust_operations(configuration(None, ours), ours, NOW) == [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": value},
    ]
    assert trust_operations(configuration(ours), ours, NOW) == []
    spoiled = configuration(None)
    spoiled["webhooks"][0]["clientConfig"]["caBundle"] = "no base64!"
    assert trust_operations(spoiled, ours, NOW)[1]["value"] == value


class Entry(WebhookConfigClient):
    """An API server with one entry; `interruptions` others change it between our read and our write."""

    def __init__(self, found: dict[str, Any] | None, interruptions: int = 0, status: int = 0) -> None:
        self.found, self.interruptions, self.status, self.patches = found, interruptions, status, 0

    async def get(self, *_: Any) -> dict[str, Any] | None:
        if self.status:
            raise ApiError(self.status, "no")
        return self.found

    async def _patch(self, operations: list[dict[str, Any]]) -> None:
        self.patches += 1
        if self.interruptions:
            self.interruptions -= 1
            raise ApiError(422, "the test failed")
        assert self.found is not None
        for operation in operations[1:]:
            self.found["webhooks"][0]["clientConfig"]["caBundle"] = operation["value"]


def publish(entry: Entry) -> Published:
    return asyncio.run(entry.publish(made().authority, NOW))


def test_a_conflict_is_tried_again_at_once() -> None:
    entry = Entry(configuration(b""), interruptions=2)
    assert publish(entry) is Published.TRUSTED
    assert entry.patches == 3


def test_endless_conflicts_are_left_for_later() -> None:
    with pytest.raises(ApiError, match="was changed by others each time"):
        publish(Entry(configuration(b""), interruptions=99))


def test_without_an_entry_or_a_right_nothing_is_made() -> None:
    assert publish(Entry(None)) is Published.ABSENT
    assert publish(Entry(configuration())) is Published.ABSENT
    assert publish(Entry(None, status=403)) is Published.FORBIDDEN
    with pytest.raises(ApiError):
        publish(Entry(None, status=503))


class Authorities:
    """Remembers what was published; fails while it is told to."""

    def __init__(self) -> None:
        self.published: list[bytes] = []
        self.answer: Published | Exception = Published.TRUSTED

    async def publish(self, authority: bytes, now: datetime) -> Published:
        assert now.tzinfo is not None
        if isinstance(self.answer, Exception):
            raise self.answer
        self.published.append(authority)
        return self.answer


class Life:
    """A replica's certificate with a clock of its own."""

    def __init__(self) -> None:
        self.now = NOW
        self.authorities = Authorities()
        self.pauses: list[float] = []
        self.settled = 0
        self.upkeep = OwnCertificate(NAMES, "replica", self.authorities, lambda: self.now, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        raise asyncio.CancelledError

    def look(self, later: timedelta = timedelta(0)) -> None:
        """Run the loop once."""
        self.now += later

        async def once() -> None:
            task = asyncio.create_task(self.upkeep.keep(self._settle))
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(once())

    def _settle(self) -> None:
        self.settled += 1

    def served(self) -> str:
        return asyncio.run(serial_of(self.upkeep.serving))


async def serial_of(serving: Rotating) -> str:
    """Return the number of the certificate that a client without a server name is shown, as one by address is."""
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=serving.context) as running:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        host, port = running.sockets[0].getsockname()
        _, writer = await asyncio.open_connection(host, port, ssl=client)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return str(x509.load_der_x509_certificate(der).serial_number)


def test_an_authority_is_looked_after_every_minute() -> None:
    life = Life()
    life.look()
    life.look(timedelta(minutes=1))
    assert len(set(life.authorities.published)) == 1
    assert len(life.authorities.published) == 2, "it is put back if somebody has taken it away"
    assert life.pauses == [60.0, 60.0]


def test_a_new_certificate_is_trusted_before_it_is_served() -> None:
    life = Life()
    life.look()
    first = life.served()
    life.look(4 * DAY)
    assert life.served() == first, "the API server has to hear of the new authority first"
    assert len(set(life.authorities.published)) == 2
    life.look(timedelta(minutes=1))
    assert life.served() != first
    assert life.authorities.published[-1] == life.authorities.published[-2], "and it is the one that was published"


def test_a_replica_that_slept_for_days_serves_no_dead_certificate() -> None:
    life = Life()
    first = life.served()
    life.look(8 * DAY)
    assert life.served() != first


def test_an_api_server_that_is_away_is_asked_again_soon_and_the_replica_is_not_ready_before() -> None:
    life = Life()
    life.authorities.answer = ApiError(503, "away")
    life.look()
    assert (life.pauses, life.settled) == ([5.0], 0)
    life.authorities.answer = Published.TRUSTED
    life.look()
    assert (life.pauses, life.settled) == ([5.0, 60.0], 1)


@pytest.mark.parametrize("answer", [Published.ABSENT, Published.FORBIDDEN])
def test_without_an_entry_the_replica_is_ready_and_says_so_once(
    answer: Published, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life()
    life.authorities.answer = answer
    with caplog.at_level(logging.INFO):
        life.look()
        life.look(timedelta(minutes=1))
    assert life.settled == 2
    assert len([each for each in caplog.records if "MutatingWebhookConfiguration" in each.message]) == 1


def save(certificate: Certificate, folder: Path) -> None:
    (folder / "tls.crt").write_bytes(certificate.chain)
    (folder / "tls.key").write_bytes(certificate.key)


def test_a_given_certificate_is_read_again_when_its_files_change(tmp_path: Path) -> None:
    save(made(), tmp_path)
    upkeep = GivenCertificate(tmp_path)
    first = asyncio.run(serial_of(upkeep.serving))
    asyncio.run(upkeep.look())
    assert asyncio.run(serial_of(upkeep.serving)) == first
    save(made(), tmp_path)
    assert asyncio.run(upkeep.look()) == 10.0
    assert asyncio.run(serial_of(upkeep.serving)) != first


def test_files_that_are_half_written_change_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(made(), tmp_path)
    upkeep = GivenCertificate(tmp_path)
    first = asyncio.run(serial_of(upkeep.serving))
    (tmp_path / "tls.crt").write_bytes(made().chain)
    asyncio.run(upkeep.look())
    asyncio.run(upkeep.look())
    assert asyncio.run(serial_of(upkeep.serving)) == first
    assert len([each for each in caplog.records if "the one of before is kept" in each.message]) == 1
    assert "PRIVATE" not in caplog.text


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key"])
def test_a_folder_without_a_pair_is_an_error_that_names_it(tmp_path: Path, missing: str) -> None:
    save(made(), tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(CertificateError, match=f"^{tmp_path}: no certificate to use"):
        read_certificate(tmp_path)


def test_an_address_is_named_where_one_is_listened_on() -> None:
    names = server_names("s", "n", "127.0.0.1")
    found = x509.load_pem_x509_certificate(make_certificate(names, "replica", NOW).chain)
    alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each) for each in alternatives.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert server_names("s", "n", "::") == server_names("s", "n", "0.0.0.0")
