"""Single files of the web, from a real server with TLS: whole, over https to the end, and within the disk."""

import ssl
import subprocess
import threading
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lora_api.exit_codes import ExitCode
from lora_trainer.errors import TrainerError
from lora_trainer.storage import http
from lora_trainer.storage.http import Http
from lora_trainer.storage.location import Location
from lora_trainer.storage.web import Web

ROWS = b'{"text": "row"}\n' * 1000
STATUS = {"/forbidden": 403, "/gone": 410, "/missing": 404, "/teapot": 418}


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self):
        if self.path in STATUS:
            self.send_error(STATUS[self.path])
        elif self.path == "/moved":
            self._redirect("/rows.jsonl")
        elif self.path == "/downgraded":
            self._redirect("http://127.0.0.1:1/rows.jsonl")
        elif self.path == "/circle":
            self._redirect("/circle")
        else:
            self._rows()

    def _redirect(self, target):
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _rows(self):
        self.send_response(200)
        self.send_header("Content-Length", str(2**60 if self.path == "/huge" else len(ROWS)))
        self.end_headers()
        self.wfile.write(ROWS)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate of 127.0.0.1 that is its own authority, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", folder / "key", "-out", folder / "crt"], check=True, capture_output=True)
    return folder


@pytest.fixture
def server(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "crt", certificate / "key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def web(certificate, monkeypatch):
    """A client that trusts the certificate and does not wait between attempts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "crt"))
    return Web(Http(sleep=lambda _: None))


def rows(server, path="/rows.jsonl"):
    return Location(f"{server}{path}", "spec.dataset.train.uri")


@pytest.mark.parametrize("path", ["/rows.jsonl", "/moved", "/rows.jsonl?version=3"])
def test_a_file_is_downloaded_and_read(web, server, tmp_path, path):
    web.download(rows(server, path), tmp_path / "rows")
    assert (tmp_path / "rows").read_bytes() == ROWS
    assert web.read(rows(server, path)) == ROWS
    assert web.read(rows(server, path), 3, 5) == ROWS[3:8]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/forbidden", ExitCode.NO_PERMISSION),
        ("/missing", ExitCode.INPUT_NOT_FOUND),
        ("/gone", ExitCode.INPUT_NOT_FOUND),
        ("/teapot", ExitCode.INVALID_REQUEST),
        ("/downgraded", ExitCode.INVALID_REQUEST),
        ("/circle", ExitCode.INVALID_REQUEST),
        ("/huge", ExitCode.DISK_FULL),
    ],
)
def test_what_cannot_be_downloaded_has_an_exit_code_and_a_fix(web, server, tmp_path, path, code):
    with pytest.raises(TrainerError) as refused:
        web.download(rows(server, path), tmp_path / "rows")
    assert refused.value.exit_code == code
    assert refused.value.message.startswith(f"spec.dataset.train.uri: {server}{path}")
    assert refused.value.hint


def test_a_disk_that_fills_up_meanwhile_is_not_taken_for_trouble_of_the_network(web, server, tmp_path, monkeypatch):
    full = namedtuple("usage", "free")(len(ROWS) - 1)
    monkeypatch.setattr(http.shutil, "disk_usage", lambda _: full)
    with pytest.raises(TrainerError) as refused:
        web.download(rows(server), tmp_path / "rows")
    assert refused.value.exit_code == ExitCode.DISK_FULL


def test_a_certificate_that_nobody_trusts_is_service_unavailable(server, tmp_path):
    with pytest.raises(TrainerError, match="did not answer") as refused:
        Web(Http(sleep=lambda _: None)).download(rows(server), tmp_path / "rows")
    assert refused.value.exit_code == ExitCode.SERVICE_UNAVAILABLE
