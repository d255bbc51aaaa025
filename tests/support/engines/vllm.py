"""vLLM in this process: the server that also runs alone in a pod."""

from support.engines.standalone import Vllm

__all__ = ["Vllm"]
