"""Answers as LoRAX does: adapters load at the first request that names them, and an id is never read twice."""

from dataclasses import dataclass, field
from typing import Any

from support.engines.standalone import Adapter, LoadError, MissingError, Reply, likeliest, next_tokens, read_adapter


@dataclass
class Lorax:
    """One server's settings and memory."""

    base: str = "base-model"
    version: str = "0.12.1"
    docker_label: str = "one"
    """Changes when another image is started."""
    api_key: str | None = None
    max_lora_rank: int = 128
    healthy: bool = True
    modules: dict[str, Adapter] = field(default_factory=dict)
    """By adapter id."""

    def restart(self) -> None:
        """Forget everything."""
        self.modules.clear()

    def answer(self, method: str, path: str, key: str | None, body: Any) -> Reply:
        """Answer one request."""
        match method, path:
            case "GET", "/health":
                return (200, "") if self.healthy else (503, {"error": "unhealthy", "error_type": "healthcheck"})
            case "GET", "/info":
                return 200, {"model_id": self.base, "version": self.version, "docker_label": self.docker_label}
            case "POST", "/generate":
                return self._generate(body)
        return 404, ""

    def _generate(self, body: dict[str, Any]) -> Reply:
        if not isinstance(body.get("inputs"), str):
            return 422, "Failed to deserialize the JSON body into the target type: inputs: expected a string"
        parameters = body.get("parameters", {})
        try:
            adapter = self._adapter(parameters.get("adapter_id"), parameters.get("adapter_source", "hub"))
        except MissingError as error:
            return 424, _error(f"Request failed during generation: Server error: No such file or directory: {error}")
        except LoadError as error:
            return 424, _error(f"Request failed during generation: Server error: {error}")
        values = likeliest(next_tokens(body["inputs"], adapter), parameters.get("return_k_alternatives") or 1)
        alternatives = [{"id": token, "text": f"<{token}>", "logprob": each} for token, each in values.items()]
        token = alternatives[0] | {"special": False, "alternative_tokens": alternatives}
        return 200, {"generated_text": token["text"]} | (
            {"details": {"generated_tokens": 1, "tokens": [token]}} if parameters.get("details") else {}
        )

    def _adapter(self, identity: str | None, source: str) -> Adapter | None:
        if identity is None:
            return None
        if source != "local":
            raise MissingError(f"{identity} is not on the hub")
        if identity not in self.modules:
            self.modules[identity] = read_adapter(identity, self.max_lora_rank)
        return self.modules[identity]


def _error(message: str) -> dict[str, str]:
    return {"error": message, "error_type": "generation"}
