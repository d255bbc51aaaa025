"""Answers as SGLang does around adapters, also where that surprises.

Every failure is a 400 that only its words explain. An unloaded name is loaded again by the next request for it, from
the path of its last load. A bare adapter name as `model` is taken for the base. Options such as rsLoRA are overlooked.
"""

from dataclasses import dataclass, field
from typing import Any

from support.engines.standalone import Adapter, LoadError, MissingError, Reply, likeliest, next_tokens, read_adapter


@dataclass
class Sglang:
    """One server's settings and memory."""

    base: str = "base-model"
    root: str = "/models/base-model"
    version: str = "0.5.23"
    api_key: str | None = None
    enable_lora: bool = True
    dp_size: int = 1
    max_lora_rank: int = 16
    late_requests: int = 0
    """Unloads during which a client's request still found the old files, and loads them again."""
    registered: dict[str, str] = field(default_factory=dict)
    """Name to path: what the list shows."""
    remembered: dict[str, str] = field(default_factory=dict)
    """Name to path: every name that was ever loaded."""
    weights: dict[str, Adapter] = field(default_factory=dict)

    def restart(self) -> None:
        """Forget everything."""
        for each in (self.registered, self.remembered, self.weights):
            each.clear()

    def answer(self, method: str, path: str, key: str | None, body: Any) -> Reply:
        """Answer one request."""
        if self.api_key and key != self.api_key:
            return 401, {"error": "Unauthorized"}
        match method, path:
            case "GET", "/health":
                return 200, ""
            case "GET", "/get_server_info":
                return 200, {"version": self.version, "model_path": self.root}
            case "GET", "/v1/models":
                return 200, {"object": "list", "data": self._cards()}
            case "POST", "/load_lora_adapter":
                return self._load(body["lora_name"], body["lora_path"])
            case "POST", "/unload_lora_adapter":
                return self._unload(body["lora_name"])
            case "POST", "/generate":
                return self._generate(body)
            case "POST", "/v1/chat/completions":
                return self._chat(body["model"])
        return 404, {"detail": "Not Found"}

    def _cards(self) -> list[dict[str, Any]]:
        base = {"id": self.base, "root": self.root, "parent": None}
        return [base] + [{"id": name, "root": path, "parent": self.base} for name, path in self.registered.items()]

    def _load(self, name: str, path: str) -> Reply:
        if not self.enable_lora:
            return self._failed("LoRA is not enabled. Please set `--enable-lora` to enable LoRA.")
        if self.dp_size != 1:
            return 500, "Internal Server Error"  # an assertion
        if name in self.registered:
            return self._failed(f"Failed to load LoRA adapter {name}: LoRA adapter {name} is already loaded")
        try:
            self._register(name, path)
        except (LoadError, MissingError) as error:
            return self._failed(f"Failed to load LoRA adapter {name}: {_in_its_words(error)}")
        return self._succeeded()

    def _unload(self, name: str) -> Reply:
        if not self.enable_lora:
            return self._failed("LoRA is not enabled. Please set `--enable-lora` to enable LoRA.")
        if name not in self.registered:
            return self._failed(f"LoRA with name {name} does not exist. Loaded LoRAs: {list(self.registered)}")
        path = self.registered.pop(name)
        if self.late_requests > 0:
            self.late_requests -= 1
            self.registered[name] = path
        else:
            self.weights.pop(name)
        return self._succeeded()

    def _generate(self, body: dict[str, Any]) -> Reply:
        try:
            adapter = self._resolve(body.get("lora_path"))
        except (LoadError, MissingError) as error:
            return 400, {"error": {"message": f"Failed to implicitly load LoRA adapter: {_in_its_words(error)}"}}
        prompt = body.get("text") or body["input_ids"]
        values = likeliest(next_tokens(prompt, adapter), body["top_logprobs_num"])
        top = [[number, token, None] for token, number in values.items()]
        return 200, {"text": "x", "meta_info": {"output_top_logprobs": [top], "completion_tokens": 1}}

    def _chat(self, model: str) -> Reply:
        _, colon, name = model.partition(":")
        try:
            adapter = self._resolve(name if colon else None)
        except (LoadError, MissingError) as error:
            return 400, {"error": {"message": _in_its_words(error)}}
        content = f"sha256:{adapter.sha256}" if adapter else self.base
        return 200, {"choices": [{"message": {"role": "assistant", "content": content}}]}

    def _resolve(self, name: str | None) -> Adapter | None:
        if name is None:
            return None
        if name not in self.registered:
            if name not in self.remembered:
                raise LoadError(f"The following requested LoRA adapters are not loaded: {{{name!r}}}")
            self._register(name, self.remembered[name])
        return self.weights[name]

    def _register(self, name: str, path: str) -> None:
        self.weights[name] = read_adapter(path, self.max_lora_rank, knows_rslora=False)
        self.registered[name] = self.remembered[name] = path

    def _succeeded(self) -> Reply:
        return 200, {"success": True, "error_message": "", "loaded_adapters": dict(self.registered)}

    def _failed(self, message: str) -> Reply:
        return 400, {"success": False, "error_message": message, "loaded_adapters": dict(self.registered)}


def _in_its_words(error: Exception) -> str:
    if isinstance(error, MissingError):
        return f"[Errno 2] No such file or directory: '{error}/adapter_config.json'"
    if "max_lora_rank" in str(error):
        return "the adapter is incompatible with the current LoRA memory pool configuration"
    return "SGLang doesn't support DoRA" if "DoRA" in str(error) else str(error)
