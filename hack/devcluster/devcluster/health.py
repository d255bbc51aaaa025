"""How one sees that a program works: probes without state, which never raise."""

import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 3.0


def http_ok(url: str, ca_file: Path | None = None, *, any_answer: bool = False) -> bool:
    """Whether GET answers 200 (or anything at all, for a server that wants credentials first)."""
    # Directly: a proxy of the environment has no way to this machine.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_tls(ca_file))
    )
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
            return bool(answer.status == 200 or any_answer)
    except urllib.error.HTTPError:
        return any_answer
    except (OSError, ValueError):
        return False


def socket_answers(path: Path) -> bool:
    """Whether someone accepts connections on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT_SECONDS)
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is not None and ca_file.exists():
        return ssl.create_default_context(cafile=str(ca_file))
    # Scheduler and controller manager make a certificate for themselves at each start; only loopback is asked.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
