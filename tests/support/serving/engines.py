"""The engine of one pod: the fake vLLM on an address of its own, with a diary of what it was asked to load."""

import json
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from support.engines.standalone import Reply, Server, settings

_LOADING = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter")
_STAGING = "lora-probe-"
_OK = 200


@dataclass(frozen=True)
class Call:
    """A call that changed something."""

    time: float
    """When it was answered, by `time.monotonic`."""
    load: bool
    name: str
    path: str
    ok: bool

    @property
    def staged(self) -> bool:
        """Whether it was about the name under which a version is only tried."""
        return self.name.startswith(_STAGING)


class Engine:
    """Starts stopped. It forgets everything whenever it is started, as a process does; the diary goes on."""

    def __init__(self, address: str, port: int, arguments: list[str], environment: dict[str, str]) -> None:
        """Take the command line and the variables of the container."""
        self._address = (address, port)
        self.vllm, _, _ = settings(arguments)
        self.vllm.runtime_updating = environment.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "1"
        self.vllm.api_key = environment.get("VLLM_API_KEY") or self.vllm.api_key
        self.vllm.max_cpu_loras = 512
        self.calls: list[Call] = []
        self.started = 0.0
        self._server: Server | None = None

    @property
    def runs(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    def start(self) -> None:
        """Listen."""
        self.vllm.restart()
        self._server = Server(self._address, self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.started = time.monotonic()

    def stop(self) -> None:
        """Stop listening, as a process that died. Connections are closed with their next answer."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def restart(self) -> None:
        """Die, and come back with nothing loaded."""
        self.stop()
        self.start()

    def answer(self, method: str, path: str, key: str | None, body: Any) -> Reply:
        """Answer a request, and write down what changes something."""
        reply = self.vllm.answer(method, path, key, body)
        if path in _LOADING and isinstance(body, dict):
            about = (str(body.get("lora_name")), str(body.get("lora_path") or ""))
            self.calls.append(Call(time.monotonic(), "unload" not in path, *about, ok=reply[0] == _OK))
        return reply

    def serves(self) -> dict[str, str]:
        """Return the SHA-256 of the weights that answer to each name now; names that are only tried are left out."""
        with self.vllm.lock:
            names = [each for each in self.vllm.loaded if not each.startswith(_STAGING)]
        return {name: says for name in names if (says := self.ask(name))} if self.runs else {}

    def ask(self, name: str) -> str:
        """Return what a chat with a model says, as a user of the engine gets it; empty for an error."""
        url = f"http://{self._address[0]}:{self._address[1]}/v1/chat/completions"
        body = json.dumps({"model": name, "messages": [{"role": "user", "content": "Who are you?"}]}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.vllm.api_key or ''}"}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=5) as answer:
                said: str = json.load(answer)["choices"][0]["message"]["content"]
        except urllib.error.HTTPError:
            return ""
        return said.removeprefix("sha256:")

    def loads(self, name: str) -> list[Call]:
        """Return the loads of a name that succeeded."""
        return [each for each in self.calls if each.load and each.ok and each.name == name]

    def unloads(self, name: str) -> list[Call]:
        """Return the unloads of a name."""
        return [each for each in self.calls if not each.load and each.name == name]
