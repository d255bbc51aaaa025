"""The authorities that the API server trusts for the webhook: one for each replica, in one bounded list. Pure.

Each replica makes its own authority and keeps its key to itself, so the list is shared and its order says nothing.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

MAX_AUTHORITIES: Final = 20
"""Replicas of an update, and those of the last days that ended without their authority having run out."""
_BLOCK: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def merged_bundle(current: bytes, own: bytes, now: datetime) -> bytes:
    """Return a list of authorities (PEM) with our own in it.

    Those that have run out and what is no certificate are left out, and of the others the newest stay. A list that
    needs no change is returned as it is.
    """
    (ours,) = _certificates(own)
    others = {each for each in _certificates(current) if each != ours and each.not_valid_after_utc > now}
    newest = sorted(others, key=lambda each: each.not_valid_before_utc, reverse=True)[: MAX_AUTHORITIES - 1]
    wanted = [*newest, ours]
    found = list(_certificates(current))
    if len(found) == len(wanted) and set(found) == set(wanted):
        return current
    return b"".join(each.public_bytes(Encoding.PEM) for each in reversed(wanted))


def _certificates(bundle: bytes) -> Iterator[x509.Certificate]:
    for block in _BLOCK.finditer(bundle):
        try:
            yield x509.load_pem_x509_certificate(block[0])
        except ValueError:
            continue
