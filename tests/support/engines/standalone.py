"""A server with the HTTP behaviour of vLLM around adapters, and a computation of its own instead of a model.

One file of the standard library alone, so that it also runs in a pod, from a ConfigMap: `python3 standalone.py --port
8000 --enable-lora --max-lora-rank 16`. It reads adapter files as vLLM does, at the load and again when they fell out of
its cache, and answers in a way that depends on their bytes: a chat says the SHA-256 of adapter_model.safetensors, and
log-probabilities follow from prompt and content. An adapter whose lora_B tensors are all zero changes nothing.
"""

import argparse
import hashlib
import json
import math
import os
import signal
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import itemgetter
from pathlib import Path
from types import FrameType
from typing import Any

VOCABULARY = 128
Reply = tuple[int, Any]
"""Status, and a value for JSON or a text."""


class LoadError(Exception):
    """An adapter that vLLM answers 500 for."""


class MissingError(Exception):
    """Files that it does not find or may not read."""


@dataclass(frozen=True)
class Adapter:
    """What was read from a folder."""

    sha256: str
    """Of adapter_model.safetensors, in hexadecimal."""
    rank: int
    scale: float
    """Alpha divided by rank, or by its root with rsLoRA."""
    empty: bool
    """Whether all lora_B tensors are zero."""


def read_adapter(folder: str, max_rank: int, *, knows_rslora: bool = True) -> Adapter:
    """Read an adapter as vLLM does. Raises MissingError, or LoadError with vLLM's words."""
    try:
        config = json.loads((Path(folder) / "adapter_config.json").read_bytes())
        content = (Path(folder) / "adapter_model.safetensors").read_bytes()
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise MissingError(folder) from error
    except ValueError as error:
        raise LoadError(f"Expecting value: {error}") from error
    try:
        rank, alpha = max([config["r"], *config.get("rank_pattern", {}).values()]), config["lora_alpha"]
    except (KeyError, TypeError) as error:
        raise LoadError(f"adapter_config.json: {error!r}") from error
    if config.get("use_dora"):
        raise LoadError("vLLM does not yet support DoRA.")
    if config.get("bias", "none") != "none":
        raise LoadError("Adapter bias is not supported.")
    if rank > max_rank:
        raise LoadError(f"LoRA rank {rank} is greater than max_lora_rank {max_rank}.")
    divisor = math.sqrt(rank) if config.get("use_rslora") and knows_rslora else rank
    return Adapter(hashlib.sha256(content).hexdigest(), rank, alpha / divisor, _is_empty(content))


def _is_empty(content: bytes) -> bool:
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except ValueError as error:
        raise LoadError("Error while deserializing header: InvalidHeaderDeserialization") from error
    header.pop("__metadata__", None)
    data = content[8 + length :]
    if max((each["data_offsets"][1] for each in header.values()), default=0) != len(data):
        raise LoadError("Error while deserializing header: MetadataIncompleteBuffer")
    spans = [each["data_offsets"] for name, each in header.items() if ".lora_B." in name]
    return not any(any(data[start:end]) for start, end in spans)


def next_tokens(prompt: Any, adapter: Adapter | None) -> dict[int, float]:
    """Return the log-probability of each token of a small vocabulary after a prompt."""
    key = json.dumps(prompt)
    logits = [4 * _number(key, token) for token in range(VOCABULARY)]
    if adapter and not adapter.empty:
        logits = [each + adapter.scale * _number(adapter.sha256, key, token) for token, each in enumerate(logits)]
    total = math.log(sum(math.exp(each) for each in logits))
    return {token: each - total for token, each in enumerate(logits)}


def _number(*parts: object) -> float:
    """Return a number from 0 to 1 that follows from the parts."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:4], "little") / 2**32


def likeliest(values: dict[int, float], count: int) -> dict[int, float]:
    """Return the likeliest tokens, the first one first."""
    return dict(sorted(values.items(), key=lambda each: -each[1])[:count])


@dataclass
class Vllm:
    """One server's settings and memory. The second half are the faults and ages that tests choose."""

    base: str = "base-model"
    root: str = "/models/base-model"
    version: str = "0.33.0"
    api_key: str | None = None
    enable_lora: bool = True
    runtime_updating: bool = True
    max_lora_rank: int = 16
    max_cpu_loras: int = 4
    max_logprobs: int = 20

    old_errors: bool = False
    """The flat envelope, and 400 for an unknown name to unload."""
    load_inplace: str = "known"
    """known, overlooked (older releases) or refused (strict ones); `ineffective` says 200 and changes nothing."""
    dead: bool = False
    """The engine behind the HTTP server has died."""
    inert: bool = False
    """Adapters are accepted and never applied."""
    knows_token_ids: bool = True
    loaded: dict[str, str] = field(default_factory=dict)
    """Name to path."""
    cache: "OrderedDict[tuple[str, str], Adapter]" = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def restart(self) -> None:
        """Forget everything, as a new process does."""
        with self.lock:
            self.loaded.clear()
            self.cache.clear()

    def answer(self, method: str, path: str, key: str | None, body: Any) -> Reply:
        """Answer one request. `key` is what came as bearer token, `body` the parsed JSON, None if there was none."""
        routes = {
            ("GET", "/health"): lambda: (200, ""),
            ("GET", "/version"): lambda: (200, {"version": self.version}),
            ("GET", "/v1/models"): self._models,
            ("POST", "/v1/completions"): lambda: self._completion(body),
            ("POST", "/v1/chat/completions"): lambda: self._chat(body),
        }
        if self.runtime_updating:
            routes["POST", "/v1/load_lora_adapter"] = lambda: self._load(body)
            routes["POST", "/v1/unload_lora_adapter"] = lambda: self._unload(body)
        if self.api_key and path.startswith("/v1") and key != self.api_key:
            return 401, {"error": "Unauthorized"}
        if (method, path) not in routes:
            return 404, {"detail": "Not Found"}
        if method == "POST" and not isinstance(body, dict):
            return self._error(400, "BadRequestError", "Invalid JSON")
        if self.dead and method == "POST":
            return self._error(500, "InternalServerError", "EngineCore encountered an issue. See stack trace (above).")
        with self.lock:
            return routes[method, path]()

    def load(self, name: str, path: str) -> None:
        """Read an adapter into the cache and register it. Raises LoadError and MissingError."""
        self._read(name, path)
        self.loaded[name] = path

    def _models(self) -> Reply:
        cards = [{"id": self.base, "object": "model", "root": self.root, "parent": None}]
        cards += [
            {"id": name, "object": "model", "root": path, "parent": self.base} for name, path in self.loaded.items()
        ]
        return 200, {"object": "list", "data": cards}

    def _load(self, body: dict[str, Any]) -> Reply:
        if self.load_inplace == "refused" and "load_inplace" in body:
            detail = {
                "type": "extra_forbidden",
                "loc": ["body", "load_inplace"],
                "msg": "Extra inputs are not permitted",
            }
            return self._error(422, "Unprocessable Entity", f"[{detail}]")
        name, path = body.get("lora_name"), body.get("lora_path")
        if not name or not path:
            return self._error(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
        if name == self.base:
            return self._error(400, "InvalidUserInput", f"The name '{name}' conflicts with a served base model.")
        inplace = body.get("load_inplace") is True and self.load_inplace in ("known", "ineffective")
        if name in self.loaded and not inplace:
            return self._error(400, "InvalidUserInput", f"The lora adapter '{name}' has already been loaded.")
        if not self.enable_lora:
            return self._error(500, "InternalServerError", "LoRA is not enabled. Use --enable-lora to enable LoRA.")
        if name in self.loaded and self.load_inplace == "ineffective":
            return 200, f"Success: LoRA adapter '{name}' added successfully."
        try:
            self.load(name, path)
        except MissingError:
            return self._error(404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {path}")
        except LoadError as error:
            return self._error(500, "InternalServerError", str(error))
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def _unload(self, body: dict[str, Any]) -> Reply:
        name = body.get("lora_name")
        if not name:
            return self._error(400, "InvalidUserInput", "'lora_name' needs to be provided to unload a LoRA adapter.")
        if name not in self.loaded:
            status, kind = (400, "InvalidUserInput") if self.old_errors else (404, "NotFoundError")
            return self._error(status, kind, f"The lora adapter '{name}' cannot be found.")
        del self.loaded[name]
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def _completion(self, body: dict[str, Any]) -> Reply:
        count = body.get("logprobs") or 0
        if count > self.max_logprobs:
            words = f"Requested logprobs of {count}, which is greater than max allowed: {self.max_logprobs}"
            return self._error(400, "BadRequestError", words)
        prompt = body.get("prompt")
        if isinstance(prompt, list) and any(token >= VOCABULARY for token in prompt):
            return self._error(400, "BadRequestError", f"Token id {max(prompt)} is out of vocabulary")
        failed, adapter = self._adapter_of(body.get("model"))
        if failed:
            return failed
        values = next_tokens(prompt, adapter)
        as_ids = self.knows_token_ids and body.get("return_tokens_as_token_ids")
        top = {
            f"token_id:{token}" if as_ids else f"<{token}>": each for token, each in likeliest(values, count).items()
        }
        logprobs = {"top_logprobs": [top], "tokens": list(top)[:1]} if count else None
        choice = {"index": 0, "text": f"<{next(iter(likeliest(values, 1)))}>", "logprobs": logprobs}
        return 200, {"object": "text_completion", "model": body["model"], "choices": [choice]}

    def _chat(self, body: dict[str, Any]) -> Reply:
        failed, adapter = self._adapter_of(body.get("model"))
        if failed:
            return failed
        content = f"sha256:{adapter.sha256}" if adapter else self.base
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return 200, {"object": "chat.completion", "model": body["model"], "choices": [choice]}

    def _adapter_of(self, model: Any) -> tuple[Reply | None, Adapter | None]:
        if model == self.base:
            return None, None
        if model not in self.loaded:
            return self._error(404, "NotFoundError", f"The model `{model}` does not exist."), None
        try:
            adapter = self._read(model, self.loaded[model])
        except (LoadError, MissingError) as error:
            return self._error(500, "InternalServerError", str(error)), None
        return None, None if self.inert else adapter

    def _read(self, name: str, path: str) -> Adapter:
        """Return an adapter from the cache, or from the disk if it is not there any more."""
        found = self.cache.get((name, path)) or read_adapter(path, self.max_lora_rank)
        self.cache[name, path] = found
        self.cache.move_to_end((name, path))
        while len(self.cache) > self.max_cpu_loras:
            self.cache.popitem(last=False)
        return found

    def _error(self, status: int, kind: str, message: str) -> Reply:
        if self.old_errors:
            return status, {"object": "error", "message": message, "type": kind, "param": None, "code": status}
        return status, {"error": {"message": message, "type": kind, "param": None, "code": status}}


class Server(ThreadingHTTPServer):
    """Serves one engine: anything with `answer(method, path, key, body)`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], engine: Any) -> None:
        """Bind. Port 0 takes a free one."""
        self.engine = engine
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Overlook clients that gave up waiting."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            self._serve(json.loads(content))
        except ValueError:
            self._serve(None)

    def _serve(self, body: Any) -> None:
        key = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        status, value = self.server.engine.answer(self.command, self.path.partition("?")[0], key, body)
        content = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(value, str) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def settings(arguments: list[str]) -> tuple[Vllm, tuple[str, int], list[str]]:
    """Return the engine, where to listen, and adapters to load at the start. Unknown flags are overlooked."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model")
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--api-key", default=os.environ.get("VLLM_API_KEY"))
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument("--max-loras", type=int, default=1)
    parser.add_argument("--max-cpu-loras", type=int)
    parser.add_argument("--lora-modules", nargs="*", default=[])
    positional = arguments[1:2] if arguments[:1] == ["serve"] else []
    known, _ = parser.parse_known_args(arguments[2:] if positional else arguments)
    model = known.model or next(iter(positional), "base-model")
    engine = Vllm(
        base=known.served_model_name[0] if known.served_model_name else model,
        root=model,
        api_key=known.api_key,
        enable_lora=known.enable_lora,
        runtime_updating=os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "").lower() in ("1", "true"),
        max_lora_rank=known.max_lora_rank,
        max_cpu_loras=max(known.max_cpu_loras or 0, known.max_loras),
    )
    return engine, (known.host, known.port), known.lora_modules


def main(arguments: list[str]) -> None:
    """Load the adapters of the command line, serve, and end at SIGTERM. A bad adapter keeps it from starting."""
    engine, address, modules = settings(arguments)
    for each in modules:
        name, path = itemgetter("name", "path")(json.loads(each)) if each.startswith("{") else each.split("=", 1)
        engine.load(name, path)

    def end(_: int, __: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)  # the first process of a container has no default for it
    with Server(address, engine) as server:
        print(f"serves {engine.base} on port {server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
