"""An agent that lies: it stands in the place of a pod's own, and answers whatever a test tells it to."""

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lora_api.names import AGENT_PORT
from support.objects import Document
from support.serving.kubelet import Pod
from support.wait import wait_for


class Liar:
    """Listens in the place of an agent, and answers whatever it is told to."""

    def __init__(self, pod: Pod) -> None:
        """Take the place of a pod's agent."""
        self.asked = 0
        self.answers()
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                liar.asked += 1
                self.send_response(liar.status)
                for name, value in liar.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(liar.body)
                with suppress(OSError):
                    while liar.endless:
                        self.wfile.write(b" " * 65_536)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        pod.agent.kill()
        self._server = ThreadingHTTPServer((pod.ip, AGENT_PORT), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answers(
        self, *, status: int = 200, headers: dict[str, str] | None = None, body: bytes = b"{}", endless: bool = False
    ) -> None:
        """Answer so from now on; `endless` ones go on until the other side is tired of it."""
        self.status, self.headers, self.body, self.endless = status, headers or {}, body, endless

    def says(self, document: Document) -> None:
        """Answer with a document from now on."""
        self.answers(body=json.dumps(document).encode())

    def wait_until_heard(self, times: int = 2) -> None:
        """Wait until the operator has asked; with the second question it has read the answer to the first."""
        before = self.asked
        wait_for("the operator asks", lambda: self.asked >= before + times, seconds=60)

    def close(self) -> None:
        """End."""
        self.endless = False
        self._server.shutdown()
        self._server.server_close()


def claim(pod: Pod, served: dict[str, str], **more: Any) -> Document:
    """Return a status that claims to serve some digests by LoRAAdapter."""
    adapters = [
        {"name": name, "servedName": name, "state": "Served", "digest": digest, "servedDigest": digest}
        for name, digest in served.items()
    ]
    engine = {"kind": "vllm", "reachable": True}
    return {"podUid": pod.uid, "engine": engine, "adapters": adapters, "desiredDigest": ""} | more
